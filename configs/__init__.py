"""The configs that come with the project, by name: `--config demo`, `--config pretrain/ssv2_vit_b`.

A config of your own, anywhere, builds on one of these, for example `from mgmae_jax.configs.pretrain import common`.
"""
