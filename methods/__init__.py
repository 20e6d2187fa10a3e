"""The methods by the name a study file uses: one file each, one line here."""

from benchmark.method import Method
from methods.batch_ensemble import BatchEnsemble
from methods.deep_ensemble import DeepEnsemble
from methods.distilled_heads import DistilledHeads
from methods.mimo import Mimo
from methods.mixmo import MixMo
from methods.nfe import Nfe
from methods.prune_and_tune import PruneAndTune
from methods.single import Single

METHODS: dict[str, type[Method]] = {
    "single": Single,
    "deep_ensemble": DeepEnsemble,
    "batch_ensemble": BatchEnsemble,
    "mimo": Mimo,
    "mixmo": MixMo,
    "prune_and_tune": PruneAndTune,
    "nfe": Nfe,
    "distilled_heads": DistilledHeads,
}
