"""The one function of the package `editdistance` that SeqIO calls, without a compiler."""


def eval(a, b):
  """Levenshtein distance of two sequences.

  >>> eval('kitten', 'sitting')
  3
  """
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    last, row[0] = row[0], i
    for j, y in enumerate(b, 1):
      last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
  return row[len(b)]
