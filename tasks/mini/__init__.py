"""The suite `mini`: 27 generated datasets in 12 clusters, about one small world."""

from flanjax.data import clusters, mixtures
from flanjax.tasks.mini import closed_book_qa
from flanjax.tasks.mini import commonsense
from flanjax.tasks.mini import coreference
from flanjax.tasks.mini import nli
from flanjax.tasks.mini import paraphrase
from flanjax.tasks.mini import reading_comprehension
from flanjax.tasks.mini import sentiment
from flanjax.tasks.mini import struct_to_text
from flanjax.tasks.mini import summarization
from flanjax.tasks.mini import text_formatting
from flanjax.tasks.mini import topic
from flanjax.tasks.mini import translation
from flanjax.tasks.mini.builders import build, data_dir

# As in FLAN: what judges inference has not trained on paraphrase, nor the other way.
clusters.set_exclusions('mini', [('nli', 'paraphrase')])
mixtures.register_suite_mixtures('mini')
