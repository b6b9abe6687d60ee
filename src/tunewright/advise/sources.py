"""Where a rule comes from: the name shown beside it, and what exactly the source says. Nothing is rounded up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """name: as shown in the table; says: the claim the rule rests on; place: where to read it."""

    name: str
    says: str
    place: str


SOURCES = {
    "schulman": Source(
        "Schulman 2025",
        "LoRA Without Regret: the best LoRA learning rate is about 10 times that of full fine-tuning (fitted: 9.8, "
        "over 14 Llama and Qwen models), about 15 times in runs under some 100 steps (called anecdotal); it hardly "
        "depends on the rank at alpha 32; adapters belong on all linear layers; LoRA equals full fine-tuning until the "
        "data exceed the adapter's capacity; it pays more for large batches.",
        "https://thinkingmachines.ai/blog/lora/",
    ),
    "tinker-lr": Source(
        "Tinker cookbook",
        "hyperparam_utils.get_lr until 2026: 5e-5 (x 10 for LoRA) x (2000 / hidden size) ^ 0.781 for Llama, ^ 0.0775 "
        "for Qwen. Later replaced by swept values of single models, for example 1e-3 for Llama-3.2-1B and 3e-4 for "
        "Llama-3.1-8B (Tulu 3, batch 128, 780 steps).",
        "https://github.com/thinking-machines-lab/tinker-cookbook/blob/main/tinker_cookbook/hyperparam_utils.py",
    ),
    "tinker-rank": Source(
        "Tinker LoRA primer",
        "As a very rough approximation LoRA gives good results as long as it has at least as many weights as the data "
        "have completion tokens; default rank 32.",
        "https://tinker-docs.thinkingmachines.ai/lora-primer",
    ),
    "biderman": Source(
        "Biderman 2024",
        "LoRA Learns Less and Forgets Less: LoRA keeps more of what the base could do and regularizes more than weight "
        "decay or dropout; adapt all modules; its best learning rate is one order of magnitude above full "
        "fine-tuning's; ranks of 16 to 64 tend not to suffice for code.",
        "https://arxiv.org/abs/2405.09673",
    ),
    "trl": Source(
        "TRL guide",
        "LoRA Without Regret in TRL: an effective batch below 32.",
        "https://huggingface.co/docs/trl/main/en/lora_without_regret",
    ),
    "liu": Source(
        "Liu 2022",
        "Few-Shot Parameter-Efficient Fine-Tuning: IA3 on T0-3B and T0-11B with 20 to 70 examples is the one method "
        "above full fine-tuning; 1,000 steps, batch 8, learning rate 3e-3, linear with 60 warm-up steps.",
        "https://arxiv.org/abs/2205.05638",
    ),
    "li-liang": Source(
        "Li & Liang 2021",
        "Prefix-Tuning: better than full fine-tuning of GPT-2 and BART where data are few.",
        "https://arxiv.org/abs/2101.00190",
    ),
    "prefix-limits": Source(
        "PrefixMemory-Tuning 2025",
        "On today's large models plain prefix tuning falls behind, because the prefix competes with the prompt inside "
        "attention.",
        "https://arxiv.org/abs/2506.13674",
    ),
    "peft-prefix": Source(
        "PEFT guide",
        "The prefix-tuning guide trains t5-large with learning rate 1e-2, batch 8, 5 epochs.",
        "https://huggingface.co/docs/peft/v0.6.0/task_guides/seq2seq-prefix-tuning",
    ),
    "zhang": Source(
        "Zhang 2021",
        "Revisiting Few-sample BERT Fine-tuning: usual recipes often do not give small data enough training time.",
        "https://arxiv.org/abs/2006.05987",
    ),
    "muennighoff": Source(
        "Muennighoff 2023",
        "Scaling Data-Constrained Language Models: up to 4 epochs over the same data cost next to nothing against new "
        "data, later repetitions are worth less and less (pretraining).",
        "https://arxiv.org/abs/2305.16264",
    ),
    "unsloth": Source(
        "Unsloth guide",
        "1 to 3 epochs for most instruction data; more risks overfitting.",
        "https://unsloth.ai/docs/get-started/fine-tuning-llms-guide/lora-hyperparameters-guide",
    ),
    "deepseek": Source(
        "DeepSeek LLM 2024",
        "1.5 million instruction rows: 4 epochs for the 7B model (learning rate 1e-5, all weights), 2 for the 67B one, "
        "which overfitted.",
        "https://arxiv.org/abs/2401.02954",
    ),
    "zero": Source(
        "Rajbhandari 2020",
        "ZeRO: mixed-precision Adam needs 16 bytes a weight before activations.",
        "https://arxiv.org/abs/1910.02054",
    ),
    "qlora": Source(
        "Dettmers 2023",
        "QLoRA: LoRA over a base held in 4 bits (nf4) learns what LoRA over a 16-bit base does, in far less memory.",
        "https://arxiv.org/abs/2305.14314",
    ),
    "article": Source(
        "DeepSeek article",
        "The article this product follows: against overfitting raise weight_decay to 0.1 and stop after 5 evaluations "
        "without a better validation loss. (Its 24 GB for full fine-tuning of 7B is too low: 16 bytes a weight are "
        "110.6 GB.)",
        "docs/guides/train.md",
    ),
    "halving": Source(
        "Jamieson & Talwalkar 2016",
        "Non-stochastic Best Arm Identification: train all settings a little, keep the better part, train "
        "those longer.",
        "https://arxiv.org/abs/1502.07943",
    ),
    "asha": Source(
        "Li 2018",
        "A System for Massively Parallel Hyperparameter Tuning (ASHA): rungs of rising budget, the best 1/eta go on.",
        "https://arxiv.org/abs/1810.05934",
    ),
    "measured": Source("measured here", "Runs of this project on the same rows and model.", "tunewright runs list"),
    "house": Source("rule of thumb", "No paper: experience, said as such.", "docs/guides/advise.md"),
}
