"""Typed settings of a training run, how they are read from YAML files and command lines, and recipes of them.

Imports no torch and opens no catalogue or bundle: `zoobot_3d.learn.settings` completes settings from a bundle.

Public: `schema.Config` and its groups, `reading.read_config`, `reading.config_to_yaml`, `recipes.recipe_file`.
"""
