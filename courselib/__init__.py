"""336 machine-learning papers you can run, poke and check. Submodules are imported when they are first used."""

__version__ = "0.1.0"

import importlib


def lazy_submodules(package: str, # full name of the package
                    path,         # its `__path__`
                   ) -> tuple:    # (`__getattr__`, `__dir__`) for the package to define
    "What a package needs so that `package.module` imports `module` on first use."
    def names():
        import pkgutil
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith('_'))

    def __getattr__(name):
        if not name.startswith('_'):
            try: return importlib.import_module(f'{package}.{name}')
            except ModuleNotFoundError as e:
                if e.name != f'{package}.{name}': raise
        raise AttributeError(f"module '{package}' has no attribute '{name}'; its modules are: {', '.join(names())}")

    def __dir__(): return ['__version__', *names()] if '.' not in package else names()

    return __getattr__, __dir__


__getattr__, __dir__ = lazy_submodules(__name__, __path__)
