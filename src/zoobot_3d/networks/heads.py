"""The head that answers Galaxy Zoo's questions about a whole galaxy, beside the one that draws its masks.

Pure torch. Knows nothing of questions, votes or losses: only how many answers there are.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from zoobot_3d.errors import ConfigError

VOTE_DROPOUT = 0.2
MIN_CONCENTRATION = 1.0
"""Below 1 a Dirichlet distribution favours unanimous answers, which volunteers never give (Walmsley et al. 2022)."""
INITIAL_CONCENTRATION = 3.0
"""What a fresh head answers: volunteers' fractions are as yet unknown, and little is claimed about them."""


class VoteHead(nn.Module):
    """From the encoder's deepest map to one concentration for each answer: mean over the map, dropout, linear.

    Concentrations are those of Dirichlet distributions of volunteers' fractions, as in Zoobot (Walmsley et al. 2022,
    MNRAS 509, 3966, section 4.1), but without its upper limit.

    Parameters
    ----------
    in_channels : int
        Of the deepest map.
    answers : int
        Of all questions together.
    dropout : float
        Part of the pooled channels that training leaves out at a time.

    Raises
    ------
    ConfigError
        If there are fewer than two answers, or the dropout is not in [0, 1).
    """

    def __init__(self, in_channels: int, answers: int, dropout: float = VOTE_DROPOUT) -> None:
        super().__init__()
        if answers < 2:
            raise ConfigError(f"vote head: {answers} answers; give 2 or more, a question has at least that many")
        if not 0 <= dropout < 1:
            raise ConfigError(f"vote head: dropout {dropout} is not in [0, 1); 0.2 is usual")
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_channels, answers)
        nn.init.constant_(self.linear.bias, math.log(math.expm1(INITIAL_CONCENTRATION - MIN_CONCENTRATION)))

    @property
    def answers(self) -> int:
        """How many concentrations it gives."""
        return self.linear.out_features

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return float32 concentrations (B, answers), above 1, for the maps of an encoder, finest first."""
        pooled = features[-1].mean(dim=(2, 3))
        raw: Tensor = self.linear(self.dropout(pooled))
        return functional.softplus(raw.float()) + MIN_CONCENTRATION  # half precision would round large ones
