"""
Sources: where documents come from. A config names them in its list `sources`.

    Local(name, path, share=1.0)                      files on disk or in a store                          local.py
    HuggingFace(name, repo, revision, files="*")      files of a data set of the Hub, at a commit          hub.py
    AIKosh(name, dataset, version=None)               files of a data set of AIKosh, by its id             aikosh.py
    Web(name, urls, sha256=None)                      files at addresses                                   web.py
    PythonDocs(name)                                  documentation of the installed Python: the default   python_docs.py
"""

from data_engine.local import Local
from data_engine.python_docs import PythonDocs

__all__ = ["Local", "PythonDocs"]
