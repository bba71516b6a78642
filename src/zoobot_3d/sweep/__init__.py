"""Hyper-parameter search: many processes share one journal of trials, and killed trials go on.

Trains through `zoobot_3d.learn` alone. Must not know networks or data.

Public: `sweep.sweep`, `search_space.load_search_space`, `journal.SweepJournal`.
"""
