"""How a batch of galaxies is worked through: in shards that can be resumed, on one machine or a cluster, with progress.

Must not know what is done to a galaxy; each function receives the work as a callable.

Public: `shards.sharded`, `cluster.active_cluster`, `batch.summarize`, `progress.progress_bar`.
"""
