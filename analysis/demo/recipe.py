"""What the built-in models are made of. Every number that shapes their weights is here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from transformers import DeepseekV32Config

#: How settings begin that the first stage knows nothing of.
_LATER = ("index", "variants", "copy", "copied", "asked")


@dataclass(frozen=True)
class IndexerVariant:
    """One lightning indexer: how many heads and how wide."""

    name: str
    heads: int
    dim: int


@dataclass(frozen=True)
class DemoRecipe:
    """Architecture, training and indexer fit of the built-in DeepSeek-V3.2-style models."""

    seed: int = 20251
    vocab_size: int = 2048
    context: int = 512
    hidden_size: int = 192
    layers: int = 6
    heads: int = 6
    intermediate_size: int = 512
    index_topk: int = 64
    steps: int = 4500
    batch: int = 8
    learning_rate: float = 4e-3
    warmup_steps: int = 200
    copy_steps: int = 700
    copy_learning_rate: float = 2e-3
    copy_warmup_steps: int = 20
    copied_rows: int = 2
    asked_rows: int = 3
    copy_weight: float = 4.0
    indexer_steps: int = 300
    indexer_batch: int = 2
    indexer_learning_rate: float = 4e-3
    variants: tuple[IndexerVariant, ...] = field(
        default=(IndexerVariant("baseline", 4, 64), IndexerVariant("light", 2, 32))
    )

    def pretraining(self) -> dict[str, object]:
        """The settings that determine the body's weights after the first stage, and no others."""
        return {name: value for name, value in asdict(self).items() if not name.startswith(_LATER)}

    def copying(self) -> dict[str, object]:
        """Those that determine what the second stage makes of a body, and no others."""
        return {name: value for name, value in asdict(self).items() if not name.startswith(("index", "variants"))}


def demo_config(recipe: DemoRecipe, variant: IndexerVariant) -> DeepseekV32Config:
    """The transformers configuration of one built-in model: MLA, dense MLPs, a lightning indexer in every layer."""
    return DeepseekV32Config(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        moe_intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        first_k_dense_replace=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        q_lora_rank=96,
        kv_lora_rank=64,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=1,
        max_position_embeddings=4 * recipe.context,
        index_topk=recipe.index_topk,
        index_n_heads=variant.heads,
        index_head_dim=variant.dim,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
