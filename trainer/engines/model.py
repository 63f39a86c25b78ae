"""Skip-gram with negative sampling as one reads it in the papers (Mikolov et al. 2013; Goldberg and Levy 2014).

Shapes: B pairs, K negatives, V vocabulary rows, D dimensions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainer.engines.init import Tables


class SGNS(nn.Module):
    """Two tables: a word's row as input, and its row as what is to be predicted."""

    def __init__(self, tables: Tables, *, sparse: bool = False) -> None:
        """Start from copies of given tables."""
        super().__init__()
        input_VD, output_VD = (torch.from_numpy(table_VD).clone() for table_VD in tables)
        rows, dim = input_VD.shape
        self.input = nn.Embedding(rows, dim, sparse=sparse, _weight=input_VD)
        self.output = nn.Embedding(rows, dim, sparse=sparse, _weight=output_VD)

    def forward(self, input_B: torch.Tensor, output_B: torch.Tensor, negatives_BK: torch.Tensor) -> torch.Tensor:
        """Loss of each pair [B]: −log σ(v·u) − Σ log σ(−v·n) over its K negatives n."""
        input_BD, output_BD = self.input(input_B), self.output(output_B)
        negatives_BKD = self.output(negatives_BK)
        positive_B = (input_BD * output_BD).sum(dim=1)
        negative_BK = torch.bmm(negatives_BKD, input_BD.unsqueeze(2)).squeeze(2)
        loss_B: torch.Tensor = -functional.logsigmoid(positive_B) - functional.logsigmoid(-negative_BK).sum(dim=1)
        return loss_B
