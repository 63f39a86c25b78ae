"""What both command lines share: flags, the ways a command ends, files it writes, and the shell of report pages.

It knows neither the pipeline nor the trainer. The trainer may import it.
"""
