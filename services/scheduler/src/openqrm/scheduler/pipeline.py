"""Filter, weigh, pick, explain. Pure: the same cluster and request give the same proposal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openqrm.contracts.placement import MAX_EXPLAINED, PlacementProposal, PlacementRequest, Refusal, Score
from openqrm.scheduler.columns import HostColumns, Numbers
from openqrm.scheduler.filters import FILTERS
from openqrm.scheduler.filters.base import Filter
from openqrm.scheduler.membership import Mask
from openqrm.scheduler.snapshot import Cluster
from openqrm.scheduler.weighers import WEIGHERS
from openqrm.scheduler.weighers.base import Weigher

Rows = NDArray[np.intp]

SCORE_DIGITS = 6


@dataclass(frozen=True)
class _Refused:
    by: Filter
    rows: Mask
    count: int


class Pipeline:
    """The filters and weighers with their multipliers, and how many hosts an answer explains one by one."""

    def __init__(
        self,
        multipliers: Mapping[str, float],
        explained: int = MAX_EXPLAINED,
        filters: Sequence[Filter] = FILTERS,
        weighers: Sequence[Weigher] = WEIGHERS,
    ) -> None:
        self._filters = filters
        self._weighers = [(weigher, multipliers[weigher.name]) for weigher in weighers]
        self._explained = explained

    def propose(self, cluster: Cluster, request: PlacementRequest, sequence: int) -> PlacementProposal:
        """Choose a host; `sequence` is the last event that the cluster includes.

        Of equally good hosts the one with the lowest id is chosen.
        """
        hosts = cluster.hosts
        left, considered = _considered(hosts, request)
        refused: list[_Refused] = []
        for each in self._filters:
            passing = each.passes(cluster, request)
            if passing is None:
                continue
            failing = left & ~passing
            count = int(np.count_nonzero(failing))
            if count:
                refused.append(_Refused(each, failing, count))
                left = left & passing
        rows = np.flatnonzero(left)
        many_refused = sum(r.count for r in refused)
        explained = min(request.explained, self._explained)
        scores_shown = min(len(rows), max(explained // 2, explained - many_refused))
        scores = self._scores(cluster, request, rows, scores_shown)
        return PlacementProposal(
            host_id=scores[0].host_id if scores else None,
            scores=scores,
            refusals=_refusals(cluster, request, refused, explained - scores_shown),
            refused_by={r.by.name: r.count for r in refused},
            hosts_considered=considered,
            projection_sequence=sequence,
        )

    def _scores(self, cluster: Cluster, request: PlacementRequest, rows: Rows, shown: int) -> tuple[Score, ...]:
        if not len(rows):
            return ()
        parts = [weigher.weigh(cluster, request) for weigher, _ in self._weighers]
        total: Numbers = np.zeros(cluster.hosts.length)
        for part, (_, multiplier) in zip(parts, self._weighers, strict=True):
            total += part * multiplier
        best = _best(cluster.hosts, rows, total[rows], shown)
        names = [weigher.name for weigher, _ in self._weighers]
        columns = [np.round(column[best], SCORE_DIGITS).tolist() for column in (total, *parts)]
        views = [cluster.hosts.view(row) for row in best.tolist()]
        return tuple(
            Score(host_id=view.id, host_name=view.name, total=whole, parts=dict(zip(names, values, strict=True)))
            for view, whole, *values in zip(views, *columns, strict=True)
        )


def _considered(hosts: HostColumns, request: PlacementRequest) -> tuple[Mask, int]:
    if request.only_host_id is None:
        return hosts.present, hosts.count
    mask = np.zeros(hosts.length, dtype=np.bool_)
    row = hosts.row_of.get(request.only_host_id)
    if row is None:
        return mask, 0
    mask[row] = True
    return mask, 1


def _best(hosts: HostColumns, rows: Rows, total: Numbers, count: int) -> Rows:
    """The `count` best of the rows, best first; of equals the lower id first."""
    if count < len(rows):
        # Every host at least as good as the last one shown, so that equals are told apart by id and not by chance.
        limit = np.partition(total, len(total) - count)[len(total) - count]
        better = np.flatnonzero(total > limit)
        equal = np.flatnonzero(total == limit)
        wanted = count - len(better)
        if wanted < len(equal):
            high = hosts.id_high[rows[equal]]
            equal = equal[high <= np.partition(high, wanted - 1)[wanted - 1]]
        chosen = np.concatenate([better, equal])
        rows, total = rows[chosen], total[chosen]
    order = np.lexsort((hosts.id_low[rows], hosts.id_high[rows], -total))
    return rows[order[:count]]


def _refusals(cluster: Cluster, request: PlacementRequest, refused: list[_Refused], shown: int) -> tuple[Refusal, ...]:
    """Reasons for at most `shown` hosts, those first that came furthest: they are the nearest to fitting."""
    refusals: list[Refusal] = []
    for each in reversed(refused):
        for row in np.flatnonzero(each.rows)[: shown - len(refusals)].tolist():
            view = cluster.hosts.view(row)
            reason = each.by.reason(cluster, row, request)
            refusals.append(Refusal(host_id=view.id, host_name=view.name, filter=each.by.name, reason=reason))
    return tuple(refusals)
