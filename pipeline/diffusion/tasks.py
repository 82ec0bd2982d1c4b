"""The diffusion tasks (supplement A.3 to A.6 and A.8): one description builds network, training batches and sampling.

Images of a sample, each the 2x2 grid or, for a task of one view, one view of it:

| name | is |
|---|---|
| `whole` | I, the object |
| `colours` | C, the label map in the reference colours, of which chance or appearance gives each part one |
| `part` | J, the part alone from the same cameras |
| `masked` | I * M, the visible pixels of the part, white elsewhere |
| `rest` | I * M_rest, the visible pixels of the other parts, white elsewhere |
| `view` | one view of the object from a random direction; beside the noise it lies on white of the grid's height |

Masks: `mask`, M, where the part is in sight; `rest_mask`, M_rest, where any other part is.
"""

from dataclasses import dataclass, replace

from pipeline.errors import UserError, nearest

BASE = "text_to_mv"
"""What every other task is fine-tuned from (A.4 to A.8), but for those that go on from one of these."""


@dataclass(frozen=True)
class Task:
    """What a denoiser sees, attends to and predicts. C is the number of latent channels."""

    name: str
    target: str
    """The image whose latents are denoised."""
    stacked: tuple[str, ...] = ()
    """Images whose latents (C channels each) follow the noised latents in the network's input channels."""
    stacked_mask: str | None = None
    """A mask that follows them unencoded, as one channel at the latents' resolution."""
    beside: str | None = None
    """An image whose latents lie to the right of the noised ones; only the target's side is predicted (A.4)."""
    caption: str | None = None
    """Whose caption the text tokens are: `whole` or `part`; None for the null text, the empty string."""
    image_tokens: str | None = None
    """The image whose tokens a second cross-attention of every attention block attends to (A.4)."""
    views: int = 4
    """4 for the grid; 1 for a network that draws one view after the other (baseline 3 of A.2)."""
    augmentations: tuple[str, ...] = ()
    """What keeps the task true: `roll` of the azimuths, `mirror`, `jitter` of the colours of all images alike,
    `recolour` of each part."""
    joint: bool = False
    """Whether the parts of an object are drawn together, every place of one attending to the same place of the others
    (supplement E)."""
    base: str = BASE
    """The task whose network it is fine-tuned from."""

    def in_channels(self, latent_channels: int) -> int:
        """Input channels of the network: C for the noised latents, C for every stacked image, 1 for a stacked mask."""
        return latent_channels * (1 + len(self.stacked)) + (self.stacked_mask is not None)

    def of_network(self, in_channels: int, latent_channels: int) -> "Task":
        """The task as a network of so many input channels was trained for it: without its mask where there is no room.

        Weights of `complete_no_context` that were made when the task had no mask stay of use.
        """
        without = replace(self, stacked_mask=None)
        return without if in_channels == without.in_channels(latent_channels) else self

    @property
    def images(self) -> tuple[str, ...]:
        """All images that a training sample of the task carries, the target first."""
        shown = (self.target, *self.stacked, *filter(None, (self.beside, self.image_tokens)))
        return tuple(dict.fromkeys(shown))

    @property
    def needs_parts(self) -> bool:
        """Whether objects that are not divided into parts are of no use to it."""
        return self.target != "whole"

    @property
    def of_parts(self) -> bool:
        """Whether a sample is one part of an object, rather than an object."""
        return self.target == "part"


ALL = ("roll", "mirror", "jitter")

# Captions name colours and places, and a picture from elsewhere fixes which side is the front: no augmentation there
# but the mirror, which turns left and right of picture and grid together.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("text_to_mv", "whole", caption="whole"),
        Task("image_to_mv", "whole", beside="view", image_tokens="view", augmentations=("mirror",)),
        Task("segment", "colours", stacked=("whole",), augmentations=(*ALL, "recolour")),
        Task("complete", "part", stacked=("masked", "whole"), stacked_mask="mask", augmentations=ALL),
        Task("edit", "part", stacked=("rest",), stacked_mask="rest_mask", caption="part"),
        Task("complete_no_context", "part", stacked=("masked",), stacked_mask="mask", augmentations=ALL),
        Task(
            "complete_single_view",
            "part",
            stacked=("masked", "whole"),
            stacked_mask="mask",
            views=1,
            augmentations=("mirror", "jitter"),
        ),
        Task(
            "complete_joint",
            "part",
            stacked=("masked", "whole"),
            stacked_mask="mask",
            augmentations=ALL,
            joint=True,
            base="complete",
        ),
    )
}
"""The five tasks, the two ablations of Table 2: without context B(I*M), and one view at a time B(I_v*M_v, I_v); and
completion of all parts together (supplement E)."""

BESIDE = ("complete_joint",)
"""Tasks that are trained when they are asked for by name: dvc.yaml has no stage for them."""
TRAININGS = ("autoencoder", *(name for name in TASKS if name not in BESIDE))
"""Everything that the stages `train` of dvc.yaml train, each after what it starts from."""


def find_task(name: str) -> Task:
    """The task of that name; UserError that names the nearest one."""
    if name not in TASKS:
        raise UserError(f"There is no task `{name}`{nearest(name, TASKS)}; the tasks are {', '.join(TASKS)}.")
    return TASKS[name]
