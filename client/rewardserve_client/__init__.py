"""Client, rejection sampling and trainer integrations for a rewardserve scoring cluster.

Everything public is named here, except for `testing`, `sampling`, `pairs` and `integrations`,
which are modules of their own. Neither torch nor ray is imported.
"""

from ._async_client import AsyncRewardClient
from ._client import RewardClient
from ._errors import (
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
from ._plan import ScoreOptions
from ._results import Ranking, Rewards
from ._settings import Timeout
from ._types import Conversation, Message, Prompt, Reward, ServedModel

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
