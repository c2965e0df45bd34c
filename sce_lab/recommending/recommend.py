"""Ten recommendations after a history, oldest item first: python recommend.py ITEM ITEM ..."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

folder = Path(__file__).parent
labels = json.loads((folder / "items.json").read_text(encoding="utf-8"))
table = load_file(folder / "model.safetensors")["item_embedding"]  # (C, D)
encoder = torch.export.load(folder / "encoder.pt2").module()  # (length, D) -> (D,)
config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
longest, weight = config["max_length"], config.get("followers", 0)

row = {str(label): c for c, label in enumerate(labels)}
if unknown := [item for item in sys.argv[1:] if item not in row] or not sys.argv[1:]:
    sys.exit(f"unknown items: {', '.join(unknown)}" if unknown is not True else __doc__)
history = torch.tensor([row[item] for item in sys.argv[1:]])
with torch.no_grad():
    scores = table.float() @ encoder(table[history[-longest:]]).float()  # (C,)
if weight:  # what has followed the last three items in training, each step further away worth half
    known, followed = load_file(folder / "followers.safetensors"), torch.zeros(len(table))
    for back, item in enumerate(history.flip(0)[:3]):
        some = slice(*known["offsets"][item : item + 2].tolist())
        followed.index_add_(0, known["items"][some], known["counts"][some] * 0.5**back)
    scores += weight * followed.log1p()
scores[history] = -torch.inf  # what was had is left out
for score, c in zip(*scores.topk(min(10, len(labels) - len(history.unique())))):
    print(labels[c], f"{score:.4f}", sep="\t")
