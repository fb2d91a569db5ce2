"""What holds for all tests: none fails because the machine is busy, so what hypothesis measures is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("kafkapy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kafkapy")
