"""A script as Keras's users write it: one picture, the five likeliest classes. Arguments: weights, picture."""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
from keras.applications.resnet import ResNet50, preprocess_input
from keras.utils import img_to_array, load_img

model = ResNet50(weights=sys.argv[1])
picture = img_to_array(load_img(sys.argv[2], target_size=(224, 224)))
shares = np.asarray(model.predict(preprocess_input(picture[None]), verbose=0))[0]
answers = [{"index": int(index), "probability": float(shares[index])} for index in shares.argsort()[::-1][:5]]
print(json.dumps(answers))
assert keras.backend.backend() == "tensorflow"
