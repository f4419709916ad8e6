"""Chat templates that render as the families' published ones do, in Jinja.

Data alone. Llama-3.1 prints the date its authors fixed unless `date_string` is given.
"""

from typing import Final

_GEMMA_TURNS: Final = """\
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] == 'system' -%}
    {{- raise_exception('Gemma takes no system message') -}}
  {%- endif -%}
  {%- if message['role'] != ['user', 'assistant'][loop.index0 % 2] -%}
    {{- raise_exception('Gemma takes turns of user and assistant, the user first') -}}
  {%- endif -%}
  {%- set speaker = 'model' if message['role'] == 'assistant' else 'user' -%}
  {{- '<start_of_turn>' + speaker + '\\n' + message['content'] | trim + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<start_of_turn>model\\n' -}}
{%- endif -%}
"""

_LLAMA_TURN: Final = """\
{%- macro turn(role, content) -%}
  {{- '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + content + '<|eot_id|>' -}}
{%- endmacro -%}
"""

_LLAMA_ANSWER: Final = """\
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

_LLAMA31_TURNS: Final = """\
{%- set today = date_string if date_string is defined else '26 Jul 2024' -%}
{%- set dates = 'Cutting Knowledge Date: December 2023\\nToday Date: ' + today + '\\n\\n' -%}
{%- set opened = messages and messages[0]['role'] == 'system' -%}
{{- turn('system', dates + (messages[0]['content'] | trim if opened else '')) -}}
{%- for message in (messages[1:] if opened else messages) -%}
  {{- turn(message['role'], message['content'] | trim) -}}
{%- endfor -%}
"""

_LLAMA3_TURNS: Final = """\
{%- for message in messages -%}
  {{- turn(message['role'], message['content'] | trim) -}}
{%- endfor -%}
"""

GEMMA: Final = _GEMMA_TURNS

LLAMA3: Final = "{{- bos_token -}}\n" + _LLAMA_TURN + _LLAMA3_TURNS + _LLAMA_ANSWER

LLAMA31: Final = "{{- bos_token -}}\n" + _LLAMA_TURN + _LLAMA31_TURNS + _LLAMA_ANSWER

LLAMA31_WITHOUT_BOS: Final = _LLAMA_TURN + _LLAMA31_TURNS + _LLAMA_ANSWER
"""As in repositories that leave the BOS token to the tokenizer."""
