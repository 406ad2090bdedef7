"""Comparisons: models x data sets x seeds, from one YAML to one table.

| module    | holds                                                                        |
|-----------|------------------------------------------------------------------------------|
| `plan`    | what a YAML file asks for: data sets, models, seeds, and the cells they make |
| `spec`    | how its data sets and models are read and checked                            |
| `settings`| and what else it may say                                                     |
| `cell`    | one cell: train, calibrate, judge, measure                                   |
| `engine`  | the cells of a plan in processes, each kept as soon as it is done            |
| `summary` | what the cells say together, in numbers                                      |
| `table`   | and in files: the leaderboard as CSV, Markdown and a page                    |
| `verb`    | `deepad compare`                                                             |
"""
