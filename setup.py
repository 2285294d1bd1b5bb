"""Packaging: `tasks/` ships as flanjax.tasks, `gin/` as data of flanjax.gin."""

import setuptools

_COMPARISON = ['lm_eval', 'peft', 'torch', 'transformers']
_SERVE = ['prometheus_client>=0.20', 'starlette>=0.40', 'uvicorn>=0.30']
# What T5X imports besides; itself it is in no registry: gin/t5x/requirements.txt.
_T5X = 'cached_property>=1.5 chex>=0.1.90 clu>=0.0.12 fiddle>=0.3 grain>=0.2.12 jaxtyping>=0.2.30 tensorboard>=2.18'.split()

setuptools.setup(
    name='flanjax',
    version='0.1.0',
    description='Instruction tuning in JAX: tasks, templates, held-out clusters.',
    license='Apache-2.0',
    python_requires='>=3.11',
    package_dir={'flanjax.tasks': 'tasks', 'flanjax.gin': 'gin'},
    packages=(
        setuptools.find_packages(include=['flanjax', 'flanjax.*'])
        + ['flanjax.tasks']
        + [f'flanjax.tasks.{p}' for p in setuptools.find_packages('tasks')]
        + ['flanjax.gin']
    ),
    package_data={
        'flanjax.data': ['pages/*'],
        'flanjax.evaluation': ['templates/*', 'templates/*/*'],
        'flanjax.gin': ['**/*.gin', 't5x/requirements.txt'],
        'flanjax.pages': ['*.css'],
        'flanjax.tasks': ['mini/base*/*'],
    },
    install_requires=[
        'absl-py>=2.0',
        'array_record>=0.8',
        'etils[epath]>=1.10',
        'flax>=0.12,<0.13',
        'gin-config>=0.5',
        # TFDS imports it while preparing data and does not declare it.
        'importlib_resources>=6.0',
        'jax>=0.10,<0.12',
        'jinja2>=3.1',
        'matplotlib>=3.8',
        'ml_dtypes>=0.4',
        'msgpack>=1.0',
        'numpy>=2.0',
        'optax>=0.2.5',
        'orbax-checkpoint>=0.11.30',
        'pyarrow>=14',
        'pyyaml>=6.0',
        'rich>=13',
        'rouge-score>=0.1.2',
        'sacrebleu>=2.4',
        'safetensors>=0.5',
        'scikit-learn>=1.4',
        'scipy>=1.13',
        'sentencepiece>=0.2',
        'seqio==0.0.20',
        'tensorboardX>=2.6',
        'tensorflow>=2.18',
        'tensorflow-datasets>=4.9.7',
        'tensorstore>=0.1.60',
    ],
    extras_require={
        'test': ['httpx>=0.27', 'openai>=1.40', 'pytest>=8', 'pytest-xdist>=3', 'ruff', 'statsmodels>=0.14',
                 *_SERVE],
        'serve': _SERVE,
        'comparison': _COMPARISON,
        # Tried with 2.77. It holds back protobuf, pyarrow, pillow and python-dateutil.
        'beam': ['apache-beam>=2.77,<3'],
        't5x': _T5X,
        'gcs': ['etils[epath-gcs]'],
        'lm_eval': ['lm_eval>=0.4.9'],
        'wandb': ['wandb>=0.17'],
        's3': ['etils[epath-s3]'],
    },
    entry_points={'console_scripts': ['flanjax=flanjax.cli:main']},
)
