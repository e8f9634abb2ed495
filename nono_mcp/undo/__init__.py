"""A session's snapshots and its rollbacks: what is kept around a call, and put back."""
