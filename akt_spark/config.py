"""The configuration: strict models of ``conf/*.yaml``, and the one place for every default."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from akt_spark.config_sources import FolderSource, LogsSource, MovieLensSource
from akt_spark.config_types import EventType, NonNegative, PositiveEvent, RunId, Section, Settings, Share
from akt_spark.ranker.presets import PRESETS, WITHOUT_CODES


class LakeConfig(Section):
    """Where tables and artifacts live."""

    root: str = Field("lake", description="folder or URI of the Delta tables; artifacts (models) lie beside them")


class SparkConfig(Section):
    """The Spark session. A master given to spark-submit wins."""

    master: str = Field("local[2]", description="used only when the job is not started by spark-submit")
    shuffle_partitions: PositiveInt = Field(4, description="partitions after a shuffle; 2-3 a core")
    settings: Settings = Field({}, description="any other spark.* setting")


class IngestConfig(Section):
    """What a night accepts from its raw data, and the gate that stops it before anything is loaded."""

    late_days: NonNegativeInt = Field(
        7, description="daily files ({ds} in the path): older events than this many days before --ds are quarantined"
    )
    early_days: NonNegativeInt = Field(
        1, description="daily files: events up to this many days after --ds are loaded, for their own day"
    )
    max_rejected_share: Share = Field(0.1, description="gate: rejected rows of events, of items and of users")
    volume_days: PositiveInt = Field(7, description="gate: days before --ds whose mean a day is compared with")
    min_volume: NonNegative = Field(0.2, description="gate: events of --ds against that mean, at least")
    max_volume: PositiveFloat = Field(5.0, description="gate: events of --ds against that mean, at most")
    max_new_item_share: Share = Field(0.8, description="gate: events of --ds on items that the lake does not know")
    max_new_user_share: Share = Field(1.0, description="gate: events of --ds of users that the lake does not know")
    max_null_share: dict[Annotated[str, Field(pattern=r"^(events|items|users)\.\w+$")], Share] = Field(
        {}, description="gate: null values of accepted rows, as table.column: share, for example items.image: 0.5"
    )


class SplitConfig(Section):
    """The global time split, counted back from --ds: training, then validation, then test."""

    validation_days: PositiveInt = Field(1, description="days of validation before the test period")
    test_days: PositiveInt = Field(5, description="last days, up to and including --ds (the paper: 5)")

    def train_end(self, ds: date) -> date:
        """Last day of the training period."""
        return ds - timedelta(days=self.test_days + self.validation_days)

    def validation_end(self, ds: date) -> date:
        """Last day of the validation period."""
        return ds - timedelta(days=self.test_days)


class FeaturesConfig(Section):
    """Sequences and activity features."""

    sequence_length: PositiveInt = Field(100, description="newest events kept in a history")
    history_events: list[EventType] = Field(
        ["click", "cart", "purchase"], min_length=1, description="events that enter histories"
    )
    click_window_minutes: NonNegative = Field(
        30.0, description="a click of the same user and item this long after an impression labels it 1"
    )
    ctr_prior: Share = Field(0.05, description="CTR of an id without history")
    ctr_prior_weight: PositiveFloat = Field(20.0, description="impressions that the prior is worth")
    attribute_buckets: PositiveInt = Field(10_000, description="hash buckets of static attributes")


class SegmentConfig(Section):
    """Head and tail of one entity, counted in the training period."""

    exposures: Literal["impressions", "positives"] = Field(
        "impressions", description="what counts as shown; positives: clicks, carts and purchases, of a log without more"
    )
    tail_below: PositiveInt = Field(description="tail: fewer impressions than this (paper: items 10, users 5)")
    rule: Literal["threshold", "quantile"] = Field(
        "threshold", description="how teachers and students are chosen: by counts, or by share of ids with impressions"
    )
    teacher_at_least: PositiveInt = Field(100, description="threshold rule: a teacher has this many impressions")
    teacher_impressions: Share = Field(
        0.8, description="threshold rule: and is of the most shown, which make up this share of all impressions"
    )
    student_below: PositiveInt = Field(description="threshold rule: a student has fewer impressions than this")
    teacher_share: Share = Field(0.2, description="quantile rule: this share of ids, the most active, are teachers")
    student_share: Share = Field(0.5, description="quantile rule: this share, the least active, are students")

    @model_validator(mode="after")
    def _roles_are_disjoint(self) -> SegmentConfig:
        if self.teacher_at_least < self.student_below:
            raise ValueError(
                f"teacher_at_least ({self.teacher_at_least}) must not be below student_below ({self.student_below})"
            )
        if self.teacher_share + self.student_share > 1:
            raise ValueError(
                f"teacher_share ({self.teacher_share}) + student_share ({self.student_share}) must be at most 1"
            )
        return self


class SegmentsConfig(Section):
    """Head and tail, teachers and students (method.md 5.3)."""

    item: SegmentConfig = SegmentConfig(tail_below=10, student_below=10)
    user: SegmentConfig = SegmentConfig(tail_below=5, student_below=5)


class PlantedConfig(Section):
    """An experiment: ids cut to few training events, to see what rankers make of them (docs/experiments.md)."""

    share: Share = Field(
        0.0, description="share of the ids with more than 30 exposures in training that keep 0, 3, 9 or 30; 0: none"
    )
    entities: list[Literal["item", "user"]] = Field(["item", "user"], min_length=1, description="whose ids")
    seed: int = Field(1, description="which ids are cut, and which of their exposures stay")


class EncoderConfig(Section):
    """The multimodal encoder that embeds items."""

    FAMILY_KEYS: ClassVar[dict[str, tuple[str, ...]]] = {
        "minilm_vl": ("image_size",),
        "qwen_vl": ("model", "prompt", "pooling", "min_pixels", "max_pixels", "trust_remote_code"),
    }

    family: Literal["minilm_vl", "qwen_vl"] = Field("minilm_vl", description="a family of content/encoders")
    model: str | None = Field(None, description="qwen_vl: folder of a Qwen-VL or GME model, or its id in the hub cache")
    use_images: bool = Field(True, description="false: text only")
    image_size: PositiveInt = Field(128, description="minilm_vl: pixels a side that an image is resized to")
    min_pixels: PositiveInt = Field(56 * 56, description="qwen_vl: smaller images are enlarged to this area")
    max_pixels: PositiveInt = Field(512 * 512, description="qwen_vl: larger images are reduced to this area")
    prompt: str = Field(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n{image}{text}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
        description="qwen_vl: what the model reads; the system's sentence is the instruction",
    )
    pooling: Literal["last", "mean"] = Field("last", description="qwen_vl: the state of the last token, or of all")
    max_tokens: PositiveInt = Field(96, description="longer texts are cut; the prompt counts, images do not")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the weights in memory")
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = Field(
        "auto",
        description="auto (the GPU that Spark gives the task, or the driver has, else cpu), cpu, mps, cuda or cuda:0",
    )
    batch_size: PositiveInt = Field(64, description="items a forward pass, at most")
    batch_tokens: PositiveInt = Field(8192, description="tokens a forward pass, at most: padding and images count")
    revision: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = Field(
        None, description="a name of your own for the encoder, instead of a hash of all that it is made of"
    )
    rows_per_task: PositiveInt = Field(5000, description="items a Spark task; they are sorted by length together")
    commit_rows: PositiveInt = Field(20_000, description="items or users a commit: a killed run loses no more")
    stall_seconds: PositiveFloat = Field(
        1200.0, description="the job ends when a task finishes no batch for so long, over all of Spark's attempts at it"
    )
    max_error_share: Share = Field(0.01, description="the stage fails when more of the catalogue has no vector")
    gpus_per_task: NonNegative = Field(0.0, description="above 0: the stage asks for GPUs by a resource profile")
    trust_remote_code: bool = Field(False, description="qwen_vl: true runs the Python code that the model brings along")

    @model_validator(mode="after")
    def _keys_are_of_the_family(self) -> Self:
        for family, keys in self.FAMILY_KEYS.items():
            for key in keys:
                value, default = getattr(self, key), type(self).model_fields[key].default
                if family != self.family and value != default:
                    raise ValueError(f"{key} ({value!r}) is read by family {family} only; family is {self.family}")
        if self.family == "qwen_vl" and self.model is None:
            raise ValueError("family qwen_vl needs model: a folder, or an id such as Qwen/Qwen3-VL-Embedding-2B")
        return self

    @model_validator(mode="after")
    def _values_fit_together(self) -> Self:
        for part, needed in (("{text}", True), ("{image}", self.use_images)):
            times = self.prompt.count(part)
            if times > 1 or (needed and not times):
                raise ValueError(f"prompt must hold {part} once, not {times} times: {self.prompt!r}")
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) must not be above max_pixels ({self.max_pixels})")
        if self.gpus_per_task and self.device != "auto":
            raise ValueError(f"device ({self.device}) must be auto where gpus_per_task is set: Spark chooses the GPU")
        return self


class AdapterConfig(Section):
    """Low-rank adapters (LoRA) of a model whose own weights stay, and how they are trained."""

    rank: PositiveInt = Field(16, description="rank of an adapter")
    alpha: PositiveFloat = Field(32.0, description="an adapter's output is scaled by alpha / rank")
    dropout: Share = Field(0.05, description="before an adapter")
    learning_rate: PositiveFloat = Field(
        1e-4, description="of the adapters; the section's learning_rate is of all else"
    )
    warmup: Share = Field(0.03, description="share of steps in which both rates rise; then they fall as a cosine")


class LoraConfig(AdapterConfig):
    """Training of the encoder itself by low-rank adapters (method.md 2.3); read with ``method: lora`` only."""

    epochs: PositiveInt = Field(3, description="passes over the pairs at most, from the trained head on")
    micro_batch: PositiveInt = Field(32, description="items in memory with their gradients at a time (gradient cache)")
    max_items: PositiveInt = Field(20_000, description="items whose text and image are trained on at most")
    checkpoint_steps: PositiveInt = Field(50, description="steps between checkpoints: a killed training goes on there")


class AlignmentConfig(Section):
    """Item alignment: pairs of items and contrastive training (method.md 2)."""

    method: Literal["head", "lora"] = Field(
        "head", description="head: a projection of frozen vectors; lora: the encoder too, a GPU's work for large models"
    )
    run_on: Literal["driver", "executor"] = Field(
        "driver", description="where it trains; executor: one task, with encoder.gpus_per_task GPUs"
    )
    pair_events: list[PositiveEvent] = Field(
        ["click", "purchase"], min_length=1, description="positives that pair, each kind with its own kind"
    )
    pair_gap_days: PositiveFloat = Field(7.0, description="positives of one user at most this far apart make a pair")
    pair_window: PositiveInt = Field(5, description="a positive pairs with at most this many next ones of the user")
    pair_history: Annotated[int, Field(gt=0, le=1000)] = Field(
        500, description="newest positives of a kind that a user's pairs are mined from: no heavy user fills a task"
    )
    lift_gamma: Share = Field(0.5, description="popularity exponent of the pair score")
    lift_kappa: NonNegative = Field(5.0, description="shrinkage of the pair score")
    pairs_per_item: PositiveInt = Field(20, description="best-scored pairs kept an anchor")
    held_out_share: Share = Field(0.1, description="share of pairs kept to measure recall")
    min_held_out: PositiveInt = Field(50, description="fewer held-out pairs than this cannot judge an alignment")
    max_pairs: PositiveInt = Field(500_000, description="pairs trained on at most: a sample of anchors on the driver")
    max_candidates: PositiveInt = Field(100_000, description="items that recall searches at most, paired ones first")
    pairs_per_positive: PositiveInt = Field(100, description="an item is the positive of at most this many an epoch")
    statistics: bool = Field(
        False, description="lora: the prompt tells CTR, CVR, carts and exposures of the training period in deciles"
    )
    dim: PositiveInt = Field(128, description="length of an aligned vector")
    hidden: PositiveInt = Field(512, description="width of the projection head")
    temperature: PositiveFloat = Field(0.05, description="of the contrastive loss")
    false_negative_margin: NonNegative = Field(0.1, description="negatives this much above the pair are masked")
    hard_negatives: NonNegativeInt = Field(
        4,
        description="an anchor, from the second epoch on: near items of its leaf category, paired with others",
    )
    batch_size: PositiveInt = Field(512, description="pairs a step")
    epochs: PositiveInt = Field(10, description="passes over the pairs at most; the best on held-out pairs is kept")
    patience: PositiveInt = Field(3, description="epochs without a better recall after which training stops")
    learning_rate: PositiveFloat = Field(1e-3, description="of the head (AdamW)")
    lora: LoraConfig = LoraConfig()
    recall_at: PositiveInt = Field(50, description="k of the recall that the gate compares, aligned against raw")
    refresh_days: PositiveInt = Field(30, description="an encoder younger than this is reused")
    seed: int = Field(1, description="of initialisation, split and batches")

    @model_validator(mode="after")
    def _only_a_trained_encoder_reads_statistics(self) -> Self:
        if self.statistics and self.method == "head":
            raise ValueError("statistics needs method: lora; a frozen encoder could not learn to read them")
        return self

    @property
    def decisive(self) -> dict[str, Any]:
        """The keys on which trained weights depend."""
        unread = {"checkpoint_steps"} if self.method == "lora" else True
        return self.model_dump(exclude={"refresh_days": True, "run_on": True, "lora": unread})


class InterestPromptConfig(AdapterConfig):
    """The language model of the encoder's family as user model; read with ``model: prompt`` only."""

    titles: bool = Field(True, description="category and title of every click beside its vector; false: vectors alone")
    title_tokens: PositiveInt = Field(16, description="tokens of a category and title at most")
    max_tokens: PositiveInt = Field(512, description="tokens of a prompt at most; the oldest clicks are left out")
    add_mean: bool = Field(False, description="true: what is predicted is added to the mean of the clicks read")
    epochs: PositiveInt = Field(4, description="passes over the users; each predicts one click of a user, at random")
    micro_batch: PositiveInt = Field(16, description="prompts in memory with their gradients at a time")


class InterestConfig(Section):
    """The user model, over aligned item vectors (method.md 3)."""

    model: Literal["transformer", "prompt"] = Field(
        "transformer", description="transformer: small and causal; prompt: the encoder's language model reads a prompt"
    )
    events: list[PositiveEvent] = Field(
        ["click"], min_length=1, description="what counts as a click of a user: purchases, where a log has no clicks"
    )
    history: PositiveInt = Field(50, description="newest clicks it reads")
    days: PositiveInt | None = Field(30, description="prompt: reads no older clicks than so many days; null: all")
    max_users: PositiveInt = Field(20_000, description="users trained on at most: a sample by hash on the driver")
    held_out_share: Share = Field(
        0.1, description="share of users kept to measure recall: items do not train on their pairs either"
    )
    profile_buckets: PositiveInt = Field(1024, description="transformer: hash buckets of profile attributes")
    layers: PositiveInt = Field(1, description="transformer: layers")
    heads: PositiveInt = Field(4, description="transformer: attention heads")
    loss: Literal["infonce", "cosine"] = Field(
        "infonce", description="next click against those of the batch; cosine: no others, so nothing against collapse"
    )
    temperature: PositiveFloat = Field(0.05, description="infonce: of the contrastive loss")
    category_weight: NonNegative = Field(0.5, description="weight of the category cross-entropy")
    batch_size: PositiveInt = Field(64, description="users a step")
    epochs: PositiveInt = Field(8, description="transformer: passes over the users")
    learning_rate: PositiveFloat = Field(1e-3, description="of AdamW")
    min_variance_ratio: NonNegative = Field(0.2, description="collapse gate: variance of users against that of items")
    prompt: InterestPromptConfig = InterestPromptConfig()
    seed: int = Field(1, description="of initialisation and batches")

    @property
    def decisive(self) -> dict[str, Any]:
        """The keys on which trained weights, or how they were judged, depend."""
        return self.model_dump(exclude={"days", "prompt"} if self.model == "transformer" else set())

    @property
    def reads(self) -> dict[str, Any]:
        """The keys on which a prompt, and the vector that the trained model makes of it, depend."""
        return self.model_dump(
            include={
                "events": True,
                "history": True,
                "days": True,
                "prompt": {"titles", "title_tokens", "max_tokens", "add_mean"},
            }
        )


class QuantizerConfig(Section):
    """A residual quantiser (method.md 4)."""

    kind: Literal["rqvae", "rqkmeans", "random", "category"] = Field(
        "rqvae", description="rqvae, rqkmeans, or a control: random codes, category (of items; its sizes are not read)"
    )
    sizes: Annotated[list[PositiveInt], Field(min_length=1)] | Literal["auto"] = Field(
        description="codes a level; auto: from the catalogue, for clusters of 20 to 200 ids with teachers for students"
    )
    hidden: list[PositiveInt] = Field([256, 128], description="widths of the encoder, mirrored in the decoder")
    latent_dim: PositiveInt = Field(32, description="length of the quantised latent")
    commitment: NonNegative = Field(0.25, description="weight of the commitment term (beta)")
    rotation_trick: bool = Field(
        False, description="rotation trick; false: straight-through, which fitted MovieLens better and used all codes"
    )
    codebook_update: Literal["gradient", "ema"] = Field(
        "gradient", description="how codes follow their vectors: by the loss, or as moving averages"
    )
    ema_decay: Share = Field(0.99, description="ema: what an average keeps at a step")
    sinkhorn_levels: list[PositiveInt] = Field(
        [], description="levels, from 1, that a training batch must use evenly; assignment is always to the nearest"
    )
    warmup_steps: PositiveInt = Field(200, description="steps as a plain autoencoder before k-means initialisation")
    kmeans_init: bool = Field(True, description="k-means++ on the residuals of every level; false: small random codes")
    steps: PositiveInt = Field(600, description="steps after it, however many vectors there are")
    batch_size: PositiveInt = Field(512, description="vectors a step")
    learning_rate: PositiveFloat = Field(1e-3, description="of AdamW")
    dead_code_steps: PositiveInt = Field(50, description="steps between resets of dead codes")
    dead_code_share: Share = Field(0.1, description="dead: used less than this share of uniform use")
    max_per_sid: PositiveInt | None = Field(
        None, description="ids that may share a whole ID; the others take the nearest last code with room; null: any"
    )
    fit_rows: PositiveInt = Field(200_000, description="vectors sampled for fitting")
    seed: int = Field(1, description="of initialisation and batches")

    @model_validator(mode="after")
    def _sinkhorn_levels_exist(self) -> Self:
        if self.sizes != "auto" and max(self.sinkhorn_levels, default=1) > len(self.sizes):
            raise ValueError(
                f"sinkhorn_levels {self.sinkhorn_levels}: sizes {self.sizes} have {len(self.sizes)} levels"
            )
        return self

    @model_validator(mode="after")
    def _controls_have_no_next_code(self) -> Self:
        if self.max_per_sid is not None and self.kind in ("random", "category"):
            raise ValueError(f"max_per_sid {self.max_per_sid}: {self.kind} codes have no next nearest; set it to null")
        return self


class HealthGateConfig(Section):
    """Nothing is published below these (method.md 4.4)."""

    min_coverage: Share = Field(0.9, description="used codes of every level")
    min_head_coverage: Share = Field(0.9, description="tail ids that share the first code with a teacher")
    max_largest_bucket: Share = Field(0.2, description="share of ids in the largest full-ID bucket")
    max_unexplained_variance: PositiveFloat = Field(
        0.85, description="share of the variance of vectors that codes do not explain (noise: 0.89)"
    )


class HealthConfig(Section):
    """The sample on which neighbours are compared; all other measures of health are over all ids."""

    neighbours: PositiveInt = Field(10, description="nearest vectors that should share the first code")
    neighbour_queries: PositiveInt = Field(2000, description="ids whose neighbours among all are looked at")


class SemanticConfig(Section):
    """Semantic IDs of items and users."""

    item: QuantizerConfig = QuantizerConfig(sizes=[64, 64, 32])
    user: QuantizerConfig = QuantizerConfig(sizes=[64, 32])
    item_gate: HealthGateConfig = HealthGateConfig()
    user_gate: HealthGateConfig = HealthGateConfig(min_head_coverage=0.4)  # active users cluster with active users
    health: HealthConfig = HealthConfig()
    promotion: Literal["auto", "manual"] = Field(
        "auto", description="auto: a night publishes a new codebook that passes its gate; manual: a person does"
    )
    item_changed_content: Literal["keep", "reassign"] = Field(
        "keep", description="an item whose content changes keeps its ID, or gets that of its new content"
    )
    user_changed_content: Literal["keep", "reassign"] = Field(
        "keep", description="likewise of users, whose content is what they clicked: reassign moves many every night"
    )

    @model_validator(mode="after")
    def _users_have_no_category(self) -> Self:
        if self.user.kind == "category":
            raise ValueError("user.kind: category is for items, users have none: rqvae, rqkmeans or random")
        return self


class SamplesConfig(Section):
    """Training samples."""

    negatives: Literal["impressions", "uniform", "popularity"] = Field(
        "impressions", description="what was shown and not clicked; or drawn from items live at the time"
    )
    negatives_per_positive: PositiveInt = Field(4, description="drawn for every positive; unused with impressions")
    positive_events: list[PositiveEvent] = Field(
        ["click", "cart", "purchase"], min_length=1, description="the positives that negatives are drawn for"
    )
    codebooks: dict[str, str] = Field(
        {}, description="name: version of an item codebook beside the published one, for rankers with these codes"
    )
    block_rows: PositiveInt = Field(8192, description="rows a file (one row group): the unit that readers shuffle")
    seed: int = Field(1, description="of the placement of samples in blocks and of drawn negatives")

    @model_validator(mode="after")
    def _names_of_codes_are_new(self) -> Self:
        if taken := {"semantic", "random"} & self.codebooks.keys():
            raise ValueError(f"codebooks: {', '.join(taken)} is no free name, rankers have codes of this name already")
        return self


class ModelConfig(Section):
    """One ranker; a variant is a set of overrides (method.md 5, 6, 11)."""

    dim: PositiveInt = Field(16, description="width of an embedding")
    hidden: list[PositiveInt] = Field([128, 64], description="widths of the tower")
    dropout: Share = Field(0.1, description="in the tower")
    recent: PositiveInt = Field(20, description="newest history entries of the target attention")
    searched: PositiveInt = Field(50, description="newest history entries kept by hard search")
    recent_pooling: Literal["attention", "mean"] = Field("attention", description="what sums up the recent history")
    attention_hidden: PositiveInt = Field(32, description="width of the attention MLP, and of the gates of poso")
    attention_activation: Literal["relu", "dice"] = Field("relu", description="in the attention MLP; dice: DIN's")
    attention_softmax: bool = Field(
        True, description="weights of the entries add up to 1; false: scores as they are, as in DIN"
    )
    hard_search: Literal["none", "category", "sid"] = Field("sid", description="what a long-history entry must share")
    history_embedding: Literal["individual", "fused"] = Field(
        "individual", description="what stands for an item of the history: d, or d with c as for the target"
    )
    statistics: bool = Field(True, description="activity of user and item, as of the sample, as features")
    tower: Literal["mlp", "experts", "poso"] = Field("mlp", description="experts: MMoE's; poso: gated by activity")
    experts: PositiveInt = Field(4, description="of the tower with experts")
    wide: bool = Field(False, description="a linear part beside the tower")
    id_dropout: Share = Field(0.0, description="share of training samples whose user, or item, loses its own row")
    id_dropout_below: NonNegativeInt = Field(0, description="users and items shown less in training have no row at all")
    tail_preference: NonNegative = Field(0.0, description="weight of TailNet's preference for head or tail items")
    cluster_mode: Literal["none", "per_id", "prefix", "hybrid", "codes"] = Field(
        "hybrid", description="cluster embedding c"
    )
    prefix_members: NonNegativeInt = Field(
        0, description="ids shown in training that must share a prefix for it to have a row; what has none is not read"
    )
    mix: Literal["gate", "sum", "cluster"] = Field("gate", description="how c and d join; cluster: c alone")
    normalise_cluster: bool = Field(True, description="per_id: forward-normalise c")
    gate: Literal["learned", "constant", "shrinkage"] = Field("learned", description="weight of c by activity")
    gate_floor: Annotated[float, Field(ge=0, lt=0.5)] = Field(0.2, description="floor of the activity gate")
    gate_kappa: PositiveFloat = Field(20.0, description="shrinkage: impressions at which c and d weigh the same")
    activity_dropout: Share = Field(
        0.0, description="learned gate: share of training samples of teachers that it sees as a student's, without d"
    )
    monotone_prior: NonNegative = Field(
        0.0, description="learned gate: weight of a penalty on leaning more on c with more impressions"
    )
    block_tail_prefix: bool = Field(False, description="true: students do not move the prefix rows of teachers")
    content_start: bool = Field(
        False, description="rows of items start from projected content vectors and their cluster means, not from noise"
    )
    item_admission: NonNegativeInt = Field(0, description="items shown less in training own no row, only their cluster")
    user_admission: NonNegativeInt = Field(0, description="users shown less in training own no row, only their cluster")
    codes: str = Field(
        "semantic", description="random: shuffled codes, the control; of items also a name of samples.codebooks"
    )
    codes_of: list[Literal["item", "user"]] = Field(
        ["item"],
        description="whose semantic IDs are read; user: training samples find their own clicks in them (docs/time.md)",
    )
    transfer: bool = Field(True, description="asymmetric transfer loss")
    transfer_cold: bool = Field(
        True, description="false: ids never shown in training have no row in c, and are no students"
    )
    transfer_stop_gradient: bool = Field(
        True, description="false: teachers move with their students, the symmetric control"
    )
    teacher: Literal["fused", "cluster"] = Field("fused", description="what a teacher shows: e or c")
    lambda_student: NonNegative = Field(1.0, description="weight of head-to-tail transfer (the paper's lambda 2)")
    lambda_teacher: NonNegative = Field(0.0, description="weight of tail-to-head transfer (the paper's lambda 1)")
    transfer_temperature: PositiveFloat = Field(0.2, description="of the transfer loss")
    transfer_optimiser: Literal["own", "tables"] = Field(
        "own", description="own: plain SGD; tables: that of the ID tables, whose step hardly depends on the weight"
    )
    transfer_learning_rate: PositiveFloat = Field(0.05, description="of the transfer term's own plain SGD")
    transfer_weight: NonNegative = Field(0.01, description="of the transfer term with the tables' optimiser")
    transfer_warmup: Share = Field(0.1, description="share of steps over which the transfer grows to full weight")
    students: Literal["sampler", "batch"] = Field("sampler", description="batch: students and teachers of the batch")
    students_per_step: PositiveInt = Field(256, description="students drawn a step and lane")
    teachers_per_cluster: PositiveInt = Field(4, description="teachers drawn for a student's cluster")
    random_teachers: PositiveInt = Field(256, description="teachers of any cluster, as negatives")
    all_teachers: NonNegativeInt = Field(4096, description="teachers up to which every step shows all and draws none")
    class_balance: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="beta of the student weights")
    orthogonality: NonNegative = Field(0.02, description="weight of the orthogonality loss")
    orthogonality_stop_cluster: bool = Field(False, description="true: the orthogonality loss moves d alone")
    agreement: NonNegative = Field(0.0, description="weight of a loss that draws c and d together by activity")
    aggregation: bool = Field(True, description="hierarchical feature aggregation with a cluster view")
    aggregation_gate: Literal["learned", "constant", "instance", "cluster"] = Field(
        "learned", description="weight of the cluster view: by activity, one half, none, all"
    )
    cluster_means: Literal["snapshot", "live"] = Field(
        "snapshot", description="live: means of every step, with gradient into all members; slow, for comparison"
    )
    residual_instance: bool = Field(
        True,
        description="instance view, products and statistics enter the tower beside the fusion; false: it alone does",
    )
    snapshot_steps: PositiveInt = Field(100, description="steps between refreshes of the cluster means")
    epochs: PositiveInt | None = Field(None, description="passes over the samples; null: training.epochs")
    learning_rate: PositiveFloat | None = Field(None, description="of the dense layers; null: training.learning_rate")
    id_learning_rate: PositiveFloat | None = Field(
        None, description="of the ID tables; null: training.id_learning_rate"
    )
    content: list[Literal["item", "history", "similarity", "interest"]] = Field(
        ["similarity"], description="what is read of aligned vectors; nothing with []"
    )
    match_counts: list[Literal["item", "category", "sid"]] = Field(
        [], description="what is counted of the history that the target shares, sid: every prefix; nothing with []"
    )
    aligned_content: bool = Field(False, description="SaviorRec's content, which codes move towards behaviour")
    content_branch: Literal["none", "trained", "frozen"] = Field(
        "none", description="MAKE's click model of content alone, beside the rest; frozen: after its own epochs"
    )
    pretrain_epochs: NonNegativeInt = Field(0, description="passes over the samples before, of content_branch alone")

    def of(self, entity: Literal["item", "user"]) -> ModelConfig:
        """What one side of the ranker is made by: nothing that needs semantic IDs, where its own are not read."""
        return self if entity in self.codes_of else self.model_copy(update=WITHOUT_CODES)

    @model_validator(mode="after")
    def _losses_have_parameters(self) -> ModelConfig:
        if self.transfer and self.cluster_mode in ("none", "prefix", "codes"):
            raise ValueError(
                f"transfer trains cluster rows of single ids, and cluster_mode {self.cluster_mode} has none: "
                "set transfer: false, or cluster_mode: hybrid or per_id"
            )
        if self.orthogonality and self.cluster_mode == "none":
            raise ValueError("orthogonality compares c with d, and cluster_mode none has no c: set orthogonality: 0.0")
        gated = self.cluster_mode != "none" and self.mix == "gate"
        if self.agreement and not gated:
            raise ValueError(
                "agreement weighs c and d by the gate: set agreement: 0.0, or mix: gate and a cluster_mode"
            )
        for key in ("activity_dropout", "monotone_prior"):
            if getattr(self, key) and not (gated and self.gate == "learned"):
                raise ValueError(
                    f"{key} trains the learned gate of c and d: set {key}: 0.0, or gate: learned, mix: gate and a "
                    "cluster_mode"
                )
        if self.block_tail_prefix and self.cluster_mode in ("none", "per_id"):
            raise ValueError(
                f"block_tail_prefix keeps prefix rows from students, and cluster_mode {self.cluster_mode} has none: "
                "set block_tail_prefix: false, or cluster_mode: hybrid or prefix"
            )
        if self.prefix_members and self.cluster_mode not in ("prefix", "hybrid"):
            raise ValueError(
                f"prefix_members ({self.prefix_members}) chooses among the rows of prefixes, and cluster_mode "
                f"{self.cluster_mode} has none: set prefix_members: 0, or cluster_mode: hybrid or prefix"
            )
        if self.aggregation and self.hard_search == "none":
            raise ValueError("the cluster view attends to the searched history: set hard_search: sid or category")
        if self.content_branch == "none" and self.pretrain_epochs:
            raise ValueError(
                f"pretrain_epochs ({self.pretrain_epochs}) trains content_branch alone, and there is none: set "
                "pretrain_epochs: 0, or content_branch: trained"
            )
        if self.content_branch == "frozen" and not self.pretrain_epochs:
            raise ValueError(
                "content_branch frozen, but never trained, is noise: set pretrain_epochs, or content_branch: trained"
            )
        if self.cluster_mode == "per_id" and (self.item_admission or self.user_admission):
            raise ValueError(
                "an id that is not admitted lives on the rows of its code prefixes, and cluster_mode per_id has none: "
                "set item_admission and user_admission to 0, or cluster_mode: hybrid or prefix"
            )
        return self


class TrainingConfig(Section):
    """The training loop."""

    ranks: PositiveInt = Field(2, description="processes that train; Spark must have this many task slots")
    backend: Literal["horovod", "torch", "inline"] = Field(
        "horovod", description="torch: PySpark's TorchDistributor; inline: one process, for debugging"
    )
    parallel: PositiveInt = Field(1, description="trainings at once, each on an equal part of the ranks")
    lanes: PositiveInt | None = Field(
        None, description="equal shares of the samples that advance in step; ranks must divide them; null: one a rank"
    )
    batch_size: PositiveInt = Field(512, description="samples a step and lane")
    epochs: PositiveInt = Field(3, description="passes over the samples; the best on validation is kept")
    patience: PositiveInt | None = Field(
        None, description="epochs without a better validation AUC after which a training ends; null: it never does"
    )
    warm_start: Literal["previous"] | None = Field(
        None,
        description="previous: from the newest ranker of an earlier day that is of the same kind; null: from noise",
    )
    warm_start_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="share of the samples that an epoch of a training with such a start takes, every epoch others"
    )
    warmup_steps: NonNegativeInt = Field(0, description="steps over which both learning rates rise to their values")
    learning_rate: PositiveFloat = Field(1e-3, description="of the dense layers (Adam)")
    id_learning_rate: PositiveFloat = Field(2e-3, description="of the ID tables (lazy Adam)")
    seeds: list[NonNegativeInt] = Field([1], min_length=1, description="every variant is trained once a seed")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU a rank where there are GPUs")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16: matrix products of training steps in bfloat16; weights and all else in float32"
    )
    reader: Literal["petastorm", "arrow"] = Field("petastorm", description="what reads the samples; same batches")
    shuffle_blocks: PositiveInt = Field(4, description="blocks that are mixed in memory")
    checkpoint_steps: NonNegativeInt = Field(1000, description="steps between checkpoints; 0: only at ends of epochs")
    curve_steps: PositiveInt = Field(10, description="steps between two points of the loss curves")
    progress_seconds: PositiveFloat = Field(10.0, description="seconds between two lines of progress")
    tensorboard: str | None = Field(
        None, description="folder of TensorBoard's curves, written while trainings run; null: none"
    )
    mlflow: str | None = Field(None, description="tracking URI of MLflow, which gets finished trainings; null: none")

    @property
    def shares(self) -> int:
        """Lanes, however they are configured."""
        return self.lanes or self.ranks

    @model_validator(mode="after")
    def _ranks_share_lanes(self) -> Self:
        if self.ranks % self.parallel:
            raise ValueError(f"parallel {self.parallel}: ranks {self.ranks} cannot be parted equally; set a divisor")
        if self.parallel > 1 and self.backend == "inline":
            raise ValueError(f"parallel {self.parallel}: backend inline is one process; set parallel: 1")
        if self.shares % (self.ranks // self.parallel):
            each = "ranks" if self.parallel == 1 else "ranks / parallel"
            raise ValueError(
                f"lanes {self.lanes}: {each} {self.ranks // self.parallel} cannot share them equally; "
                f"set a multiple of {each}"
            )
        return self


class RankerConfig(Section):
    """The rankers that a night trains."""

    model: ModelConfig = ModelConfig()
    variants: dict[str, dict[str, Any]] = Field(
        {
            "akt_rec": {},
            "base": {"preset": "base"},
            "prefix_residual": {"preset": "prefix_residual"},
            "random_sid": {"codes": "random"},
        },
        min_length=1,
        description="name: a preset (docs/rivals.md), and overrides of ranker.model",
    )

    @model_validator(mode="after")
    def _variants_are_models(self) -> RankerConfig:
        for name in self.variants:
            try:
                self.variant(name)
            except ValidationError as error:
                wrong = "; ".join(f"{'.'.join(map(str, p['loc']))}={p['input']!r}: {p['msg']}" for p in error.errors())
                allowed = ", ".join(ModelConfig.model_fields)
                raise ValueError(f"variants.{name}: {wrong} (keys of ranker.model: {allowed})") from None
        return self

    def variant(self, name: str) -> ModelConfig:
        """The model of a variant: ``ranker.model``, then the variant's preset if it has one, then its overrides."""
        overrides = dict(self.variants[name])
        preset = overrides.pop("preset", None)
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"variants.{name}: preset={preset!r} is unknown, there are {', '.join(PRESETS)}")
        chosen = {} if preset is None else PRESETS[preset].overrides
        return ModelConfig.model_validate(self.model.model_dump() | chosen | overrides)


class TuningConfig(Section):
    """What jobs/tune.py tries for every variant, and judges by validation alone (docs/experiments.md)."""

    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {"learning_rate": [5e-4, 1e-3, 2e-3], "id_learning_rate": [1e-3, 3e-3, 1e-2]},
        min_length=1,
        description="values of keys of ranker.model, all with all; the same for every variant",
    )
    seeds: list[NonNegativeInt] = Field([1], min_length=1, description="every point is trained once a seed")


class ServingConfig(Section):
    """The ranker that scores what people ask for, and that jobs/export.py writes (docs/serving.md)."""

    run: RunId = Field(
        None, description="run that trained it: a night, such as 2018-09-24, or an experiment's; null: the newest night"
    )
    variant: str | None = Field(None, description="name under ranker.variants; null: the best on validation of the run")
    seed: NonNegativeInt | None = Field(None, description="of its training; null: the best on validation")
    batch_pairs: PositiveInt = Field(
        8192, description="pairs of a user and a candidate that a worker scores at once: its memory follows from it"
    )


class EvaluationConfig(Section):
    """Evaluation."""

    reference: str = Field("base", description="variant that the others are compared with")
    calibration_bins: PositiveInt = Field(20, description="equal-mass bins of the calibration error")
    bootstrap: PositiveInt = Field(1000, description="resamples of users for the intervals of differences")


class ReportConfig(Section):
    """The report that people read."""

    path: str = Field("report", description="folder of index.html and summary.json")
    clusters: PositiveInt = Field(64, description="clusters of the first code that can be browsed")
    cluster_members: PositiveInt = Field(6, description="head items, and other items, shown of each cluster")
    map_items: PositiveInt = Field(1000, description="items on the map of embeddings")


class MaintenanceConfig(Section):
    """What jobs/maintain.py keeps and removes (docs/maintenance.md)."""

    keep_runs: PositiveInt = Field(
        14, description="newest runs whose table versions, rankers, predictions and vectors stay"
    )
    keep_codebooks: NonNegativeInt = Field(2, description="newest retired codebooks of an entity that stay, with IDs")
    retention_hours: Annotated[int, Field(ge=168)] = Field(
        168, description="nothing is removed that was in use this short ago; at least a week, as Delta asks"
    )
    small_files: PositiveInt = Field(16, description="files too many that a table may have before it is compacted")
    file_mb: PositiveInt = Field(128, description="size of compacted files")


class Config(Section):
    """Everything. See ``conf/default.yaml``."""

    lake: LakeConfig = LakeConfig()
    spark: SparkConfig = SparkConfig()
    source: MovieLensSource | FolderSource | LogsSource = Field(MovieLensSource(), discriminator="kind")
    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    features: FeaturesConfig = FeaturesConfig()
    segments: SegmentsConfig = SegmentsConfig()
    planted: PlantedConfig = PlantedConfig()
    encoder: EncoderConfig = EncoderConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    interest: InterestConfig = InterestConfig()
    semantic: SemanticConfig = SemanticConfig()
    samples: SamplesConfig = SamplesConfig()
    ranker: RankerConfig = RankerConfig()
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig = TuningConfig()
    serving: ServingConfig = ServingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()
    maintenance: MaintenanceConfig = MaintenanceConfig()

    @model_validator(mode="after")
    def _reference_is_trained(self) -> Config:
        if self.evaluation.reference not in self.ranker.variants:
            known = ", ".join(self.ranker.variants)
            raise ValueError(f"evaluation.reference is '{self.evaluation.reference}', which is no variant ({known})")
        return self

    @model_validator(mode="after")
    def _codes_are_looked_up(self) -> Config:
        known = ("semantic", "random", *self.samples.codebooks)
        for name in self.ranker.variants:
            if (codes := self.ranker.variant(name).codes) not in known:
                raise ValueError(
                    f"ranker.variants.{name}: codes is '{codes}'; it may be {', '.join(known)}, or a name that "
                    "samples.codebooks gives a codebook"
                )
        return self


def fingerprint(*parts: Any) -> str:
    """A short stable hash of JSON-like values (16 hex digits)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
