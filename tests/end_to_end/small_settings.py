"""Settings of an experiment so small that it learns nothing, and takes seconds."""

SMALL = (
    "world.train_questions=40",
    "world.dev_questions=5",
    "world.test_questions=6",
    "world.scale=0.05",
    "warm_start.phases=[{kind: reading, updates: 2, tokens: 512}]",
    "training.max_steps=2",
    "training.batch_size=4",
    "training.minibatch_size=4",
    "training.value_warmup_steps=1",
    "training.value_warmup_epochs=1",
    "rollout.max_turn_tokens=16",
    "evaluation.dev_questions=4",
    "evaluation.every_steps=1",
    "logging.checkpoint_every=1",
)
