"""What the tests of training in several processes start: train.py CONFIG OUT, with batch norm as in use.

Each process's batch norm sees its own share of a batch only, so its statistics, and with them the gradients, differ
from those of the whole batch by design; frozen, everything that is left must be the same.
"""

import sys

import torch
from pytorch_lightning import Callback

from zoobot_3d.learn.settings import load_config
from zoobot_3d.learn.train import train


class FrozenNorm(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for module in pl_module.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(load_config(sys.argv[1]), sys.argv[2], callbacks=[FrozenNorm()])
