"""The engine room: device and precision, the training loop, optimisers, schedules, checkpoints, metrics."""
