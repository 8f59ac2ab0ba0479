"""The measured time per image and what it tells callers to wait."""

from app.serving.service_rate import ServiceRate


def test_before_the_first_batch_the_wait_is_one_second() -> None:
    """Without a measurement callers are asked to come back after the least wait."""
    assert ServiceRate().retry_after(1000) == 1


def test_the_wait_is_images_times_seconds_per_image_rounded_up() -> None:
    """Replicas that work in parallel divide it."""
    rate = ServiceRate()
    rate.observe(images=4, seconds=4.0, replicas=2)
    assert rate.retry_after(5) == 3
    assert rate.retry_after(0) == 1


def test_newer_batches_weigh_more() -> None:
    """One slow batch moves the average by a fifth of the difference; many of them become the average."""
    rate = ServiceRate()
    rate.observe(images=1, seconds=1.0, replicas=1)
    rate.observe(images=1, seconds=2.0, replicas=1)
    assert rate.retry_after(10) == 12
    for _ in range(50):
        rate.observe(images=1, seconds=2.0, replicas=1)
    assert rate.retry_after(10) == 20
