"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# Compiled code is slow the first time: no test judges time, so neither does Hypothesis. Examples are fixed, so that
# a run that passes here passes there.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
