"""The suite `flan2021`: datasets of FLAN (Wei et al. 2022) in the clusters of its paper.

Splits, options and metrics are FLAN's; the templates are this library's own. DialogSum, a sibling of
SAMSum that FLAN does not have, is read by a TFDS builder of its own.
"""

from flanjax.data import mixtures
from flanjax.tasks.flan2021 import closed_book_qa
from flanjax.tasks.flan2021 import commonsense
from flanjax.tasks.flan2021 import coreference
from flanjax.tasks.flan2021 import misc
from flanjax.tasks.flan2021 import nli
from flanjax.tasks.flan2021 import paraphrase
from flanjax.tasks.flan2021 import reading_comprehension
from flanjax.tasks.flan2021 import reading_comprehension_commonsense
from flanjax.tasks.flan2021 import sentiment
from flanjax.tasks.flan2021 import splits
from flanjax.tasks.flan2021 import struct_to_text
from flanjax.tasks.flan2021 import summarization
from flanjax.tasks.flan2021 import translation

mixtures.register_suite_mixtures('flan2021')
splits.register_mixtures()
