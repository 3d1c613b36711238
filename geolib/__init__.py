"""geolib: tracks of data points through deep networks, and how close they are to Wasserstein geodesics.

The library behind the book on Gai and Zhang, arXiv:2102.09235. The public names are listed in ``__init__.pyi`` and
imported on first use, so that ``geolib --help`` loads neither torch nor POT.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
