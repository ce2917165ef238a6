"""FuxiCTR's side of a benchmark, run with the Python of its own environment: one training of its DIN or DNN.

FuxiCTR's wheel has its layers, its loop and its loaders, but of its model zoo neither DIN nor DNN. They are put
together here of its layers, as in model_zoo/DIN/src/DIN.py and model_zoo/DNN/DNN_torch/src/DNN.py of its repository
(Apache-2.0).

    python -P benchmarks/fuxictr_models.py FOLDER '{"model": "din", ...}'

trains on what `lake_samples.export` has written and prints a JSON object: AUC of validation and test samples, and
samples/s without evaluation. (-P, because the folder of this file holds another fuxictr.py.)
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbeddingDict, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything

COMMON = {"optimizer": "adam", "loss": "binary_crossentropy", "metrics": ["AUC"], "verbose": 0}


class Timed(BaseModel):
    """Counts the seconds of training, without those of evaluation."""

    seconds = 0.0

    def train_epoch(self, data_generator):
        started = time.monotonic()
        super().train_epoch(data_generator)
        self.seconds += time.monotonic() - started

    def eval_step(self):
        started = time.monotonic()
        super().eval_step()
        self.seconds -= time.monotonic() - started


class DNN(Timed):
    """MLP of all embeddings and the mean of the history's."""

    def __init__(self, feature_map, settings, **kwargs):
        super().__init__(feature_map, model_id="DNN", **kwargs)
        self.embedding_layer = FeatureEmbeddingDict(feature_map, settings["dim"])
        self.mlp = tower(feature_map, settings, self.output_activation)
        self.compile(COMMON["optimizer"], COMMON["loss"], settings["rate"])
        self.reset_parameters()

    def forward(self, inputs):
        embedded = self.embedding_layer(self.get_inputs(inputs))
        return {"y_pred": self.mlp(self.embedding_layer.dict2tensor(embedded, flatten_emb=True))}


class DIN(Timed):
    """The same, the history summed up by attention of the target; Dice and no softmax, as is its default."""

    def __init__(self, feature_map, settings, **kwargs):
        super().__init__(feature_map, model_id="DIN", **kwargs)
        self.dim = settings["dim"]
        self.target = [name for name in feature_map.features if name.startswith("item")]
        self.sequence = [name for name in feature_map.features if name.startswith("history")]
        self.embedding_layer = FeatureEmbeddingDict(feature_map, self.dim)
        self.attention = DIN_Attention(
            self.dim * len(self.target), attention_units=settings["attention"], hidden_activations="Dice"
        )
        self.dnn = tower(feature_map, settings, self.output_activation)
        self.compile(COMMON["optimizer"], COMMON["loss"], settings["rate"])
        self.reset_parameters()

    def forward(self, inputs):
        fields = self.get_inputs(inputs)
        embedded = self.embedding_layer(fields)
        target, sequence = (torch.cat([embedded[name] for name in of], -1) for of in (self.target, self.sequence))
        pooled = self.attention(target, sequence, fields["history"].long() != 0)
        embedded.update(zip(self.sequence, pooled.split(self.dim, dim=-1), strict=True))
        return {"y_pred": self.dnn(self.embedding_layer.dict2tensor(embedded, flatten_emb=True))}


MODELS = {"dnn": DNN, "din": DIN}


def tower(feature_map, settings, output):
    """The MLP on top of the embeddings."""
    return MLP_Block(
        feature_map.sum_emb_out_dim(),
        hidden_units=settings["hidden"],
        output_dim=1,
        output_activation=output,
        dropout_rates=settings["dropout"],
    )


def train(folder: Path, settings: dict) -> dict[str, float]:
    """One training by FuxiCTR's own loop and loader; the best epoch on validation is kept.

    Args:
        folder: of the samples.
        settings: model, rate, seed, epochs, batch_size, dim, hidden, attention, dropout, threads, workers that load.
    """
    torch.set_num_threads(settings["threads"])
    seed_everything(settings["seed"])
    feature_map = FeatureMap(folder.name, str(folder))
    feature_map.load(str(folder / "feature_map.json"), {"embedding_dim": settings["dim"]})
    if settings["model"] == "dnn":
        for spec in feature_map.features.values():
            if spec["type"] == "sequence":
                spec["feature_encoder"] = "layers.MaskedAveragePooling()"
    training, validation, test = RankDataLoader(
        feature_map,
        train_data=str(folder / "train.npz"),
        valid_data=str(folder / "validation.npz"),
        test_data=str(folder / "test.npz"),
        batch_size=settings["batch_size"],
        num_workers=settings["workers"],
    )
    with tempfile.TemporaryDirectory() as models:
        Path(models, folder.name).mkdir()
        model = MODELS[settings["model"]](feature_map, settings, model_root=models, **COMMON)
        model.fit(training, epochs=settings["epochs"], validation_data=validation)
    found = {name: model.evaluate(loader)["AUC"] for name, loader in (("validation", validation), ("test", test))}
    rows = training.num_samples * (model._epoch_index + 1)
    return {f"{name}_auc": float(auc) for name, auc in found.items()} | {
        "samples_a_second": round(rows / model.seconds, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), json.loads(sys.argv[2]))))
