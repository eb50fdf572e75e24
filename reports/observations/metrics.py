"""Names, units and meanings of the metrics of observations."""

from typing import NamedTuple


class Metric(NamedTuple):
    """Unit of a metric's estimate and interval, and its meaning."""

    unit: str
    meaning: str


METRICS = {
    "epoch_seconds": Metric("s", "time of one timed epoch, scaled to the whole training set and one replay"),
    "s_per_epoch": Metric("s", "mean time of an epoch, scaled to the whole training set and one replay"),
    "images_per_s": Metric("images/s", "training images per second"),
    "slowdown": Metric("ratio", "s/epoch relative to the baseline `compared_with`"),
    "slowdown_as_published": Metric("ratio", "s/epoch relative to the baseline in its own recipe"),
    "slowdown_unpaired": Metric("ratio", "slowdown as if both cells were measured at different times"),
    "slowdown_of_means": Metric("ratio", "slowdown as the ratio of arithmetic means"),
    "ideal": Metric("ratio", "counted operations relative to the baseline"),
    "efficiency": Metric("ratio", "ideal / slowdown"),
    "hours": Metric("h", "time of the whole training, computed: s/epoch x epochs"),
    "hours_with_teacher": Metric("h", "`hours` of the cell and of everything that it needs first"),
    "hours_making": Metric("h", "time to make the robust dataset that the cell trains on"),
    "hours_needed": Metric("h", "time of one training or robust dataset that the cell needs, named by `compared_with`"),
    "loader_share": Metric("share", "share of an epoch that the host waits for its batches, transfers included"),
    "memory": Metric("MB", "peak memory of the GPU in an epoch"),
    "host_memory": Metric("MB", "peak memory of the process over the whole training"),
    "speedup_of_switches": Metric("ratio", "time of the plain path `compared_with` relative to this cell's"),
    "of_product": Metric("share", "counted operations per second, relative to a large matrix product"),
    "of_copy": Metric("share", "counted bytes per second, relative to a large copy"),
    "speedup_strong": Metric("ratio", "speedup over one rank, at the same global batch size"),
    "speedup_weak": Metric("ratio", "speedup over one rank, at the same batch size per rank"),
    "parallel_efficiency_strong": Metric("ratio", "speedup_strong / ranks"),
    "parallel_efficiency_weak": Metric("ratio", "speedup_weak / ranks"),
    "factor_total": Metric("ratio", "time of the whole training relative to `compared_with`: product of the factors"),
    "factor_epochs": Metric("ratio", "factor of the numbers of epochs"),
    "factor_passes": Metric("ratio", "factor of the counted operations per epoch"),
    "factor_batch": Metric("ratio", "factor of the batch sizes, as measured on the baseline"),
    "factor_precision": Metric("ratio", "factor of the compute settings, as measured on the baseline"),
    "factor_host": Metric("ratio", "the rest, which the other factors do not explain"),
    "mean_ratio_geometric": Metric("ratio", "ratio of epoch times, geometric mean over architectures"),
    "mean_ratio_arithmetic": Metric("ratio", "ratio of epoch times, arithmetic mean over architectures"),
    "mean_ideal": Metric("ratio", "ratio of counted operations, geometric mean over architectures"),
    "certification_images_per_s": Metric("images/s", "certified images per second by the procedure `evaluation`"),
    "certification_draws_per_s": Metric("draws/s", "noise samples per second by the procedure `evaluation`"),
    "certification_speedup": Metric("ratio", "time of the plain procedure relative to that of `evaluation`"),
    "clean": Metric("share", "share of images with a right prediction"),
    "noisy": Metric("share", "share of images with a right prediction under one sample of noise"),
    "at_eps": Metric("share", "share of images that are right and robust within `radius`, by `evaluation`"),
    "certified_accuracy": Metric("share", "share of images that are right and certified within `radius`"),
    "acr": Metric("pixels", "average certified radius: mean of radius x right, for pixels in [0, 1]"),
    "skipped": Metric("images", "images without an estimate, because the first draws are wrong"),
    "abstained": Metric("share", "share of images on which the evaluation abstains"),
    "evaluation_seconds": Metric("s", "time of the whole evaluation"),
    "broken_only_by_weaker": Metric("images", "images that an attack broke and a stronger one did not"),
    "accuracy_difference": Metric("share", "accuracy at `radius` minus that of `compared_with`, on the same images"),
    "acr_difference": Metric("pixels", "ACR minus that of `compared_with`, on the same images"),
    "mcnemar_p": Metric("probability", "p of McNemar's exact test that both cells are right equally often"),
    "monitored_clean": Metric("share", "clean accuracy after the epoch `round`"),
    "monitored_at_eps": Metric("share", "accuracy at eps after the epoch `round`"),
    "monitored_mean": Metric("as stated by the evaluation", "mean of another result of the evaluation, named after it"),
    "training_loss": Metric("nats", "mean loss of the epoch `round`, as the method defines it"),
    "paper_s_per_epoch": Metric("s", "published `s_per_epoch`"),
    "paper_slowdown": Metric("ratio", "published slowdown"),
    "paper_hours": Metric("h", "published `hours`"),
    "paper_hours_with_teacher": Metric("h", "published `hours_with_teacher`"),
    "paper_factor_total": Metric("ratio", "published `factor_total`"),
    "paper_clean": Metric("share", "published `clean`"),
    "paper_at_eps": Metric("share", "published `at_eps`"),
    "paper_acr": Metric("pixels", "published `acr`"),
    "paper_certified_accuracy": Metric("share", "published `certified_accuracy`"),
}
"""Metrics by name. A share is in [0, 1], a ratio has no unit."""
