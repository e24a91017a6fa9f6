"""The front end of builds: a Dockerfile as stages of steps. Pure: no file is opened here."""
