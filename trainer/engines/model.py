"""Skip-gram and CBOW with negative sampling as one reads them in the papers (Mikolov et al. 2013; Goldberg, Levy 2014).

Shapes: B pairs, W windows, K negatives, V vocabulary rows, R rows of the input table (V, or more with n-grams), D
dimensions.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainer.engines.init import Tables
from trainer.subwords.ngrams import Parts


class SGNS(nn.Module):
    """Two tables: a word's row as input, and its row as what is to be predicted."""

    def __init__(self, tables: Tables, *, sparse: bool = False, parts: Parts | None = None) -> None:
        """Start from copies of given tables; with parts, a word's input is the mean of the rows that it is made of."""
        super().__init__()
        input_RD, output_VD = (torch.from_numpy(table_VD).clone() for table_VD in tables)
        dim = input_RD.shape[1]
        self.input = nn.Embedding(len(input_RD), dim, sparse=sparse, _weight=input_RD)
        self.output = nn.Embedding(len(output_VD), dim, sparse=sparse, _weight=output_VD)
        self._parts = None
        if parts is not None:
            self._parts = torch.from_numpy(parts.offsets), torch.from_numpy(parts.rows).long()

    def forward(self, input_B: torch.Tensor, output_B: torch.Tensor, negatives_BK: torch.Tensor) -> torch.Tensor:
        """Loss of each pair [B]: −log σ(v·u) − Σ log σ(−v·n) over its K negatives n."""
        return self._losses(self.vectors(input_B), output_B, negatives_BK)

    def vectors(self, words_B: torch.Tensor) -> torch.Tensor:
        """Inputs of words [B, D].

        Of a mean, each row gets the mean's whole gradient, as in fastText: it then moves as far as a single row would.
        """
        if self._parts is None:
            vectors_BD: torch.Tensor = self.input(words_B)
            return vectors_BD
        offsets_V1, rows = self._parts
        device, words = words_B.device, words_B.cpu()
        counts_B = offsets_V1[words + 1] - offsets_V1[words]
        starts_B = counts_B.cumsum(0) - counts_B
        places = torch.arange(int(counts_B.sum())) + torch.repeat_interleave(offsets_V1[words] - starts_B, counts_B)
        sum_BD = functional.embedding_bag(
            rows[places].to(device), self.input.weight, starts_B.to(device), mode="sum", sparse=self.input.sparse
        )
        mean_BD = sum_BD.detach() / counts_B.to(device)[:, None]
        moved_BD: torch.Tensor = sum_BD + (mean_BD - sum_BD.detach())
        return moved_BD

    def _losses(self, input_BD: torch.Tensor, output_B: torch.Tensor, negatives_BK: torch.Tensor) -> torch.Tensor:
        output_BD, negatives_BKD = self.output(output_B), self.output(negatives_BK)
        positive_B = (input_BD * output_BD).sum(dim=1)
        negative_BK = torch.bmm(negatives_BKD, input_BD.unsqueeze(2)).squeeze(2)
        loss_B: torch.Tensor = -functional.logsigmoid(positive_B) - functional.logsigmoid(-negative_BK).sum(dim=1)
        return loss_B


class CBOW(SGNS):
    """The mean, or the sum, of a window's inputs predicts its center; tables as in SGNS."""

    def __init__(self, tables: Tables, *, sparse: bool = False, parts: Parts | None = None, mean: bool = True) -> None:
        """Start from copies of given tables."""
        super().__init__(tables, sparse=sparse, parts=parts)
        self._mean = mean

    def forward(
        self, input_B: torch.Tensor, output_B: torch.Tensor, negatives_BK: torch.Tensor,
        window_B: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Loss of each window [W].

        Args:
            input_B: the inputs of all windows.
            output_B: what each window predicts, [W].
            negatives_BK: of each window, [W, K].
            window_B: the number of each input's window; by default all are of one.
        """
        window_B = torch.zeros_like(input_B) if window_B is None else window_B
        vectors_BD = self.vectors(input_B)
        input_WD = vectors_BD.new_zeros((len(output_B), vectors_BD.shape[1])).index_add(0, window_B, vectors_BD)
        if self._mean:
            input_WD = input_WD / torch.bincount(window_B, minlength=len(output_B))[:, None]
        return self._losses(input_WD, output_B, negatives_BK)
