"""The sizes of a T5, and the choices in how it is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from flax import linen as nn

from flanjax import errors
from flanjax.models import attention, prompts, stack
from flanjax.models import lora as lora_lib


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes of a T5. Two activations give T5 1.1's gated feed-forward, ('relu',) gives T5 1.0's.

  `logits_via_embedding` ties the output to the embedding, scaled by 1/sqrt(emb_dim), as in
  T5 1.0. `dtype` is that of activations and of operands of products; parameters, norms, softmax
  and logits are float32.
  `relpos_per_layer` gives every layer relative positions of its own, as in UMT5. The last
  `vocab_padding` rows of the vocabulary stand for no token, and are never predicted.
  `scan_layers` compiles one layer of each stack, not all: `stack.run`, which names the choices of
  `remat`, what the backward pass computes again. `attention` is 'plain', or the implementation
  of `jax.nn.dot_product_attention` ('xla', 'cudnn'), which drops no attention weights.
  `logits_chunk` is the number of target positions whose logits a training step has in memory at
  once, computed again in the backward pass; 0: all of them.
  `lora` puts factors beside kernels, `prompt_length` as many learned vectors before the inputs;
  see `prompts` for `prompt_reads_inputs`.
  """

  vocab_size: int
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int
  num_decoder_layers: int
  mlp_activations: tuple[str, ...] = ('gelu', 'linear')
  dropout_rate: float = 0.0
  logits_via_embedding: bool = False
  dtype: str = 'float32'
  relpos_per_layer: bool = False
  vocab_padding: int = 0
  scan_layers: bool = False
  remat: str = 'none'
  attention: str = 'plain'
  logits_chunk: int = 0
  lora: lora_lib.Lora | None = None
  prompt_length: int = 0
  prompt_reads_inputs: bool = False

  def __post_init__(self):
    object.__setattr__(self, 'mlp_activations', tuple(self.mlp_activations))
    if isinstance(self.lora, Mapping):
      object.__setattr__(self, 'lora', lora_lib.Lora(**self.lora))
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 0 if field.name in ('vocab_padding', 'prompt_length', 'logits_chunk') else 1
      if field.type == 'int' and (isinstance(value, bool) or not isinstance(value, int)
                                  or value < least):
        raise errors.UserError(f'{field.name} must be a positive integer',
                               where='T5Config', got=repr(value))
    if self.vocab_padding >= self.vocab_size:
      raise errors.UserError('vocab_padding leaves no token', where='T5Config',
                             got=self.vocab_padding, expected=f'below {self.vocab_size}')
    if not 0.0 <= self.dropout_rate < 1.0:
      raise errors.UserError('dropout_rate must be at least 0 and below 1',
                             where='T5Config', got=self.dropout_rate)
    if self.dtype not in ('float32', 'bfloat16'):
      raise errors.UserError('dtype not supported', where='T5Config', got=self.dtype,
                             expected='float32 or bfloat16')
    for name, known in (('remat', stack.REMAT_POLICIES), ('attention', attention.IMPLEMENTATIONS)):
      if getattr(self, name) not in known:
        raise errors.UserError(f'{name} not known', where='T5Config', got=getattr(self, name),
                               expected=f"one of {', '.join(known)}")
    for name in self.mlp_activations:
      if name != 'linear' and not hasattr(nn, name):
        raise errors.UserError('unknown activation', where='T5Config.mlp_activations', got=name,
                               expected='linear, gelu, relu, silu or another of flax.linen')
    if self.lora is not None:
      lora_lib.check(self.lora, list(lora_lib.module_paths(self)))

  @property
  def base(self) -> T5Config:
    """The same without adapters."""
    return dataclasses.replace(self, lora=None, prompt_length=0, prompt_reads_inputs=False)

  @property
  def adapters(self) -> str | None:
    """What the names of the parameters that adapt a base match; None: there are none."""
    parts = [lora_lib.PARAMETERS] * (self.lora is not None)
    parts += [prompts.PARAMETERS] * (self.prompt_length > 0)
    return '|'.join(parts) or None
