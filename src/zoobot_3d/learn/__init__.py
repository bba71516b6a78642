"""Training: the task, the loop, fine-tuning, calibration and logs.

Reads galaxies through `zoobot_3d.dataset` and writes a bundle. Must not know how the training set was prepared.

Public: `settings.load_config`, `train.train`, `calibration.calibrate`, `task.SegmentTask`.
"""
