"""PartGen as a library: objects made of parts out of a 3D object, a picture or a text, and their editing.

    from partgen import PartGenPipeline

    partgen = PartGenPipeline.from_pretrained()
    chair = partgen.decompose("chair.glb", seed=1)
    partgen.animated(chair).save("results/chair")

`PartGenPipeline` has the applications, `PartObject` is what all of them return, and `Choice` says which parts are
wanted. `Client` is a client of a running `partgen app`.
`table("evaluation/figures")` is a table of a run as a DataFrame. What they raise for input that is of no use
is a `UserError`, whose kinds are `NotFound`, `Invalid`, `Refused`, `NoObjects` and `NoSurface`. The libraries of the
models are imported when a name that needs them is first asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipeline.errors import Invalid, NoObjects, NoSurface, NotFound, UserError

if TYPE_CHECKING:
    from pipeline.app.client import Client
    from pipeline.applications.partgen import PartGenPipeline
    from pipeline.applications.result import PartObject
    from pipeline.applications.safety import Refused
    from pipeline.params.choice import Choice
    from pipeline.report.frame import table

__version__ = version("partgen")
__all__ = [
    "Choice",
    "Client",
    "Invalid",
    "NoObjects",
    "NoSurface",
    "NotFound",
    "PartGenPipeline",
    "PartObject",
    "Refused",
    "UserError",
    "__version__",
    "table",
]

_MODULES = {
    "Client": "pipeline.app.client",
    "PartGenPipeline": "pipeline.applications.partgen",
    "PartObject": "pipeline.applications.result",
    "Refused": "pipeline.applications.safety",
    "Choice": "pipeline.params.choice",
    "table": "pipeline.report.frame",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
