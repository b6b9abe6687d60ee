"""One training on several devices: ranks, their shares of a step, DDP, DeepSpeed ZeRO and FSDP2."""
