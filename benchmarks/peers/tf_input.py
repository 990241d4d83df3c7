"""tf.data's train-style pipeline on one core: only the box that is kept is decoded."""

from __future__ import annotations

from typing import Any

from one_core import keep_to_one
from worker import Ready, serve, timed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def set_up(settings: dict[str, Any]) -> Ready:
    keep_to_one()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    side, size = settings["side"], settings["batch_size"]

    def read(file: Any) -> Any:
        jpeg = tf.io.read_file(file)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(jpeg),
            tf.zeros((1, 0, 4)),
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
            min_object_covered=0.0,
        )
        window = tf.concat([begin[:2], extent[:2]], 0)
        picture = tf.image.resize(tf.io.decode_and_crop_jpeg(jpeg, window, channels=3), (side, side), antialias=True)
        picture = tf.image.random_flip_left_right(picture)
        return (picture / 255 - MEAN) / STD

    files = sorted(tf.io.gfile.glob(f"{settings['data']}/*/*"))
    data = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=0).repeat().map(read).batch(size)
    chosen = tf.data.Options()
    # Read ahead, and batches would be ready before the clock starts: on one core it would gain nothing else.
    chosen.threading.private_threadpool_size = 1
    chosen.threading.max_intra_op_parallelism = 1
    batches = iter(data.with_options(chosen))

    def step() -> None:
        assert next(batches).shape == (size, side, side, 3)

    return Ready(timed(step), {"versions": {"tensorflow": tf.__version__}})


if __name__ == "__main__":
    serve(set_up)
