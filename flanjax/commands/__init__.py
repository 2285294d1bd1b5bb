"""One module per verb: `add_arguments(parser)` and `run(args)`. Heavy imports are inside `run`."""
