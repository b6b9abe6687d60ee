"""What is trained and what it is measured on: tokenized rows, their step plan, and the exam on generated answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Workspace
from tunewright.models.packing import computed_tokens
from tunewright.models.token_cache import TokenCache, token_cache
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train import generated
from tunewright.train.config import TrainConfig
from tunewright.train.generated import GeneratedExam, GeneratedScores
from tunewright.train.plan import StepPlan, plan_steps


@dataclass(frozen=True)
class Rows:
    """held_out: the validation split as conversations. is_augmented: whether the data stage enlarged the training
    split."""

    held_out: list[Conversation]
    training: list[Example]
    validation: list[Example]
    plan: StepPlan
    scores: GeneratedScores | None
    tokenizer: ChatTokenizer
    is_augmented: bool

    def tokens(self) -> list[int]:
        """Tokens of each planned step."""
        return [sum(len(self.training[row].input_ids) for row in step) for step in self.plan.steps]

    def computed(self, config: TrainConfig) -> list[int]:
        """Tokens that each planned step computes: a start that rows share counts once."""
        share = config.packing and shares_prefixes(config)
        steps = ([self.training[row] for row in step] for step in self.plan.steps)
        return [computed_tokens(step, max_tokens=config.micro_batch_tokens, share_prefix=share) for step in steps]


def shares_prefixes(config: TrainConfig) -> bool:
    """Whether training computes a common start once. Not with noise: every row gets its own."""
    return config.share_prefix and not config.neftune_alpha


def load_rows(
    workspace: Workspace,
    config: TrainConfig,
    data: Artifact,
    *,
    tokenizer: ChatTokenizer,
    tokenizer_from: Path,
    max_length: int,
    seed: int,
    exam: GeneratedExam | None,
) -> Rows:
    """Tokenizes the splits and plans the steps. tokenizer_from: the folder of `tokenizer`; max_length: tokens that a
    row may have. Raises ArtifactError for a split without a trained row, ConfigError where the exam does not fit.
    """
    cache = token_cache(workspace, tokenizer, tokenizer_from, max_length=max_length, label="train")
    training, validation = (_examples(data, split, tokenizer, max_length, cache) for split in ("train", "validation"))
    held_out = [Conversation.from_row(row) for row in data.jsonl("validation.jsonl")]
    scores = generated.prepare(
        exam,
        config.evaluate_generated,
        held_out,
        tokenizer,
        max_length=max_length,
        seed=seed,
        objective=config.objective,
    )
    return Rows(
        held_out=held_out,
        training=training,
        validation=validation,
        plan=plan_steps(
            training,
            epochs=config.epochs,
            steps=config.steps,
            rows_per_step=config.rows_per_step,
            tokens_per_step=config.tokens_per_step,
            seed=seed,
        ),
        scores=scores,
        tokenizer=tokenizer,
        is_augmented=bool(data.manifest.config.get("data", {}).get("augment")),
    )


def _examples(
    data: Artifact, split: str, tokenizer: ChatTokenizer, max_length: int, cache: TokenCache
) -> list[Example]:
    def tokenized() -> list[Example]:
        conversations = (Conversation.from_row(row) for row in data.jsonl(f"{split}.jsonl"))
        return [e for conversation in conversations for e in tokenizer.examples(conversation, max_length=max_length)]

    found = cache.examples(data.file(f"{split}.jsonl"), tokenized)
    if not found:
        raise ArtifactError(
            f"the {split} split has no trained row", where=str(data.path), fix="add rows, run data again"
        )
    return found
