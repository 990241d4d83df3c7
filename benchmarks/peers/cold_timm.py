"""A script as timm's users write it: one picture, the five likeliest classes. Arguments: weights, picture."""

from __future__ import annotations

import json
import sys

import timm
import torch
from PIL import Image
from timm.data import create_transform

model = timm.create_model("resnet50", checkpoint_path=sys.argv[1]).eval()
transform = create_transform(
    (3, 224, 224), interpolation="bilinear", crop_pct=224 / 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
picture = transform(Image.open(sys.argv[2]).convert("RGB")).unsqueeze(0)
with torch.inference_mode():
    shares, classes = model(picture)[0].softmax(0).topk(5)
answers = [
    {"index": index, "probability": share} for share, index in zip(shares.tolist(), classes.tolist(), strict=True)
]
print(json.dumps(answers))
