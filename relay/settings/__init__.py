"""The configuration: one YAML file in, typed settings out, or every problem with its line and column.

words      how a value is shown and a near miss is named
types      Duration, Rate, Size, Secret: what the values of the file can be
provider   the options that every provider has
models     the file as a whole
tree       parsed YAML with positions        (from `document`)
document   YAML text → tree                  (substitutes through `environment`)
secrets    `X_file` → `X`
template   texts that each message fills: `${payload.…}`
shape      what a model says of its fields: secrets, nested models
explain    pydantic's complaints → lines an operator understands
checks     what fields say about each other
load       all of it, in order
schema     the JSON Schema of the file
"""
