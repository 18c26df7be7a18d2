"""What a run measures, writes and generates: the sections `evaluation`, `logging` and `world`."""

from pydantic import Field

from stepsearch.config.section import Section


class EvaluationSettings(Section):
    """Evaluation during training and after."""

    every_steps: int = Field(default=20, ge=1, description="Training steps between dev evaluations.")
    dev_questions: int = Field(default=256, ge=1, description="First so many dev questions are used during training.")
    batch_size: int = Field(default=128, ge=1, description="Episodes handed to the engine at once.")
    temperature: float = Field(default=0.0, ge=0, description="0 is greedy.")


class LoggingSettings(Section):
    """What is written while a run goes on."""

    tensorboard: bool = Field(default=True, description="Write TensorBoard events under logs/tensorboard.")
    trajectories_every: int = Field(default=10, ge=1, description="Steps between samples of whole trajectories.")
    trajectories: int = Field(default=4, ge=0, description="How many of them.")
    checkpoint_every: int = Field(default=20, ge=1, description="Steps between checkpoints for --resume.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Older ones are deleted.")


class WorldSettings(Section):
    """The generated multi-hop world of the quickstart."""

    train_questions: int = Field(default=3000, ge=1, description="Questions about train entities.")
    dev_questions: int = Field(default=300, ge=1, description="Questions about entities no training question names.")
    test_questions: int = Field(default=300, ge=1, description="Questions about entities no other question names.")
    scale: float = Field(default=1.0, gt=0, description="Size of the world: 1 has about 4,000 passages.")
    hops: tuple[int, ...] = Field(default=(2, 3, 4), description="Hop counts, in equal shares.")
