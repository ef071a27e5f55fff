"""What a person would write without Tidemill: `python bare_script.py CSV TARGET NUMERIC CATEGORICAL`.

Prints the seconds its imports took and the seconds of the work.
"""

# ruff: noqa: E402 - imports are timed
import sys
import time

begun = time.perf_counter()
import numpy as np
import onnxruntime
import pandas as pd
import skops.io
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

imported = time.perf_counter()

path, target, numeric = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
categorical = [c for c in sys.argv[4].split(",") if c]
table = pd.read_csv(path)
x = table[numeric + categorical].astype(dict.fromkeys(numeric, np.float32))
y = table[target].to_numpy()
u = np.random.default_rng(0).random(len(x))
train, held_out = u < 0.7, (u >= 0.7) & (u < 0.85)
k, m = len(numeric), len(categorical)


def preprocessing(linear):
    how = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()) if linear else "passthrough"
    blocks = [("n", how, list(range(k)))]
    if m:
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        blocks.append(("c", encoder, list(range(k, k + m))))
    return ColumnTransformer(blocks)


def scores(model):
    p = model.predict_proba(x[held_out])[:, 1]
    truth, label = y[held_out], p >= 0.5
    return [
        f1_score(truth, label),
        accuracy_score(truth, label),
        precision_score(truth, label, zero_division=0),
        recall_score(truth, label),
        roc_auc_score(truth, p),
        log_loss(truth, p),
        brier_score_loss(truth, p),
    ]


models = [
    make_pipeline(preprocessing(False), HistGradientBoostingClassifier(early_stopping=False, random_state=0)),
    make_pipeline(preprocessing(True), LogisticRegression(max_iter=1000)),
]
best = max(models, key=lambda model: scores(model.fit(x[train], y[train]))[0])
some = x[held_out].tail(1000)
permutation_importance(best, some, y[held_out][-1000:], n_repeats=3, random_state=0, scoring="f1")
skops.io.dumps(best)
types = [("numeric", FloatTensorType([None, k]))]
if m:
    types.append(("categorical", StringTensorType([None, m])))
opset = {"": 21, "ai.onnx.ml": 3}
onnx = convert_sklearn(best, initial_types=types, options={id(best[-1]): {"zipmap": False}}, target_opset=opset)
session = onnxruntime.InferenceSession(onnx.SerializeToString(), providers=["CPUExecutionProvider"])
pool = x.tail(2000)
feed = {"numeric": pool[numeric].to_numpy(np.float32)}
if m:
    feed["categorical"] = pool[categorical].to_numpy(object)
assert np.abs(session.run(None, feed)[1] - best.predict_proba(pool)).max() < 1e-2
print(imported - begun, time.perf_counter() - imported)
