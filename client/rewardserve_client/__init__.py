"""Client, rejection sampling and trainer integrations for a rewardserve scoring cluster.

Everything public is named here, except for `testing`, `sampling`, `pairs` and `integrations`,
which are modules of their own. Neither torch nor ray is imported.
"""

from rewardserve_client._async_client import AsyncRewardClient
from rewardserve_client._client import RewardClient
from rewardserve_client._errors import (
    Busy,
    ConnectionFailed,
    ConversationTooLong,
    DeadlineExceeded,
    InvalidConversation,
    InvalidRequest,
    InvalidResponse,
    MalformedRequest,
    ModelFailed,
    NonFiniteScore,
    RewardClientError,
    ServerFailed,
    Stalled,
    TooLarge,
    Unauthorized,
    UnknownModel,
)
from rewardserve_client._plan import ScoreOptions
from rewardserve_client._results import Ranking, Rewards
from rewardserve_client._settings import Timeout
from rewardserve_client._types import Conversation, Message, Prompt, Reward, ServedModel

__all__ = [
    "AsyncRewardClient",
    "Busy",
    "ConnectionFailed",
    "Conversation",
    "ConversationTooLong",
    "DeadlineExceeded",
    "InvalidConversation",
    "InvalidRequest",
    "InvalidResponse",
    "MalformedRequest",
    "Message",
    "ModelFailed",
    "NonFiniteScore",
    "Prompt",
    "Ranking",
    "Reward",
    "RewardClient",
    "RewardClientError",
    "Rewards",
    "ScoreOptions",
    "ServedModel",
    "ServerFailed",
    "Stalled",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "UnknownModel",
]
