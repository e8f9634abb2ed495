"""A session's snapshots and its rollbacks: what is kept around a call, and put back.

- A session's: `undo`, `rules`, `opening`, `values`; around a call: `keeping`, `beneath`,
  `in_flight`; a rollback: `rolling`; fewer of them: `thinning`.
"""
