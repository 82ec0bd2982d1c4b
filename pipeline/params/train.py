"""Parameters of the stages `train@TASK`, `train_lrm`, `train_lrm_joint`, `train_gaussians` and `train_grouping`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import Group, StageGroup

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class LoopParams(Group):
    """What all trainings share."""

    aside = frozenset({"checkpoint_every", "validate_every", "pictures_every"})

    seed: int
    """Of new weights, of the order of samples, of noise and augmentation."""
    precision: Literal["fp32", "bf16"]
    """bf16: autocast; weights, optimiser and EMA stay float32."""
    warmup_steps: Annotated[int, Field(ge=0)]
    """The learning rate rises linearly over these steps; then it stays, as in the paper, until it cools down."""
    cooldown: Annotated[float, Field(ge=0, le=1)]
    """Share of the steps, the last ones, over which the learning rate falls linearly, to its last step above 0."""
    weight_decay: Annotated[float, Field(ge=0)]
    """AdamW's."""
    clip_norm: Annotated[float, Field(gt=0)]
    """The gradient's norm is clipped to this."""
    ema_decay: Share
    """Of the exponential moving average of the weights, which is what is kept; 0 for none."""
    drop_condition: Share
    """Share of the samples trained without their conditions, for classifier-free guidance. Not published."""
    part_balance: Annotated[float, Field(ge=0)]
    """How much more the pixels of small parts count than those of large ones where parts are drawn alone; 0 for not at
    all, as in the paper. Not published."""
    augment: bool
    """Turn, mirror and recolour training samples, all pictures of one alike. The paper states none."""
    precompute: bool
    """Compute the tokens of frozen text and image encoders once, into scratch, where they are fewer than the training
    samples; otherwise with every batch."""
    checkpoint_every: Positive
    """Steps between checkpoints in scratch, from which a killed training goes on."""
    validate_every: Positive
    """Steps between the losses on validation objects."""
    pictures_every: Positive
    """Steps between sample pictures in the TensorBoard log."""


class TaskParams(Group):
    """The schedule of one training."""

    steps: Annotated[int, Field(ge=0)]
    """10,000 in the paper, 15,000 of `image_to_mv`, not published of `lrm`; 0 to keep what it starts from."""
    batch: Positive
    """Samples of a step, over all processes and accumulated parts; 512 in the paper."""
    micro_batch: Positive
    """Samples that one process takes through the network at once; the rest of a step's is accumulated."""
    learning_rate: Annotated[float, Field(gt=0)]
    """1e-5 in the paper."""


class DenoiserParams(TaskParams):
    """The schedule of a diffusion model's training."""

    aside = frozenset({"gradient_checkpointing"})

    gradient_checkpointing: bool = False
    """Of the activations keep only what enters each block, and compute the rest again in the backward pass: a third
    more work for much less memory. It changes what is learnt by rounding alone."""


class TextToMultiViewParams(DenoiserParams):
    """The schedule of `text_to_mv`."""

    objects: str
    """A text file with the ids of the objects to learn from, one a line, such as the 10,000 best of the paper's; empty
    for all. DVC does not watch it."""


class LrmParams(TaskParams):
    """The schedule of the reconstruction model's training."""

    pieces: Positive
    """Of the views of each object a step renders so many pieces, `reconstruction.crop` pixels a side."""


class JointLrmParams(LrmParams):
    """The schedule of the joint reconstruction model's training: a sample is an object in its parts."""

    parts: Annotated[int, Field(ge=2)]
    """Of an object a step makes so many at most. `pieces` are rendered of each of them, and of all together."""
    disturbed: Annotated[float, Field(ge=0, le=1)]
    """Share of the parts whose grids are made as wrong as those of completed parts are; the others are true."""
    overlap_weight: Annotated[float, Field(ge=0)]
    """Of the share of the claimed space that two parts claim, against squared errors of colour."""


class PixelGaussiansParams(TaskParams):
    """The schedule of the gaussians' model's training."""

    views: Positive
    """Of each object a step draws so many views, the grid's own among them."""


class TrainParams(StageGroup):
    """The schedules. All tasks but the first are fine-tuned from `text_to_mv`, and `complete_joint` from `complete`;
    `lrm` is the reconstruction model, `lrm_joint` the one that makes all parts of an object together and starts as
    `lrm`, `gaussians` the one that gives each pixel a gaussian, `grouping` the one that says which pieces of a surface
    are of one part; the two of SAM2 start from `evaluate.sam2`, and their schedules are not published."""

    name: ClassVar[str] = "train"

    init_from: str
    """Folder of trained models; each training goes on from the one of its own name. Empty to start anew."""
    loop: LoopParams
    autoencoder: TaskParams
    text_to_mv: TextToMultiViewParams
    image_to_mv: DenoiserParams
    segment: DenoiserParams
    complete: DenoiserParams
    edit: DenoiserParams
    complete_no_context: DenoiserParams
    complete_single_view: DenoiserParams
    complete_joint: DenoiserParams
    """A sample of it is several parts of an object, up to all."""
    lrm: LrmParams
    lrm_joint: JointLrmParams
    gaussians: PixelGaussiansParams
    grouping: TaskParams
    sam2_mask_decoder: TaskParams
    sam2_grid: TaskParams

    def schedule(self, task: str) -> TaskParams:
        """The schedule of one task, of the `autoencoder`, of a model of 3D, of the `grouping` model or of SAM2."""
        schedule: TaskParams = getattr(self, task)
        return schedule

    def denoiser(self, task: str) -> DenoiserParams:
        """The schedule of a diffusion task."""
        schedule: DenoiserParams = getattr(self, task)
        return schedule
