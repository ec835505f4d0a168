"""The rules: each looks at the signs of a run for one thing that goes wrong, and says it with its number."""

# isort: off
# In the order of causes, which is that of `RULES`.
from attractor.diagnosis.rules.judging import EVERYTHING, RULES, THRESHOLDS, Rule, Seen, confidence, judge, rule, short
from attractor.diagnosis.rules import wiring, units, steps, data, course
from attractor.diagnosis.rules.curves import Spike, spikes
