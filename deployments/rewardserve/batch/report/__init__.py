"""What scores say, in figures and tables: `rewardserve report`.

`answers` reads, `statistics` and `rewardbench` compute (pure), `figures` draws, `page` lays out.
"""
