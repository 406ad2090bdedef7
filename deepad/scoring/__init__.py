"""Scoring: from numbers to decisions with a stated false-alarm rate.

Plain NumPy scores of any model, no torch:

| module         | chapter                                                                                          |
|----------------|--------------------------------------------------------------------------------------------------|
| `conformal`    | `Calibration`: ranks, p-values, thresholds                                                       |
| `guarantee`    | what a threshold promises, as data; `ranks`: which rank may promise it                           |
| `envelope`     | bounds on all thresholds at once; the certificate of any threshold                               |
| `groups`       | a calibration for each group                                                                     |
| `severity`     | tiers under one promise                                                                          |
| `rules`        | three sigma and its kin, with the certificate that goes with them                                |
| `discovery`    | the share of false discoveries in a batch                                                        |
| `events`       | series: persistence, blocks, alert budgets, episodes; `standardize`: drifting levels             |
| `drift`        | is the calibration stale?; `workload`: a steady rate of alarms, true or false                    |
| `tail`         | beyond the largest score, by a fitted tail                                                       |
| `cost`         | thresholds from costs, or from labels                                                            |
| `ensemble`     | several models, combined before they are calibrated; `cross`: small data, each fold calibrates   |
| `display`      | what people are shown; `budget`: "2 per week" as a level                                         |

With a model, raw input in: `scorer` (`Scorer`), `verdict`, `decision`, and what they are made of.
"""
