-- PostgreSQL runs this once, over an empty volume; the database `prefect` exists already.
CREATE DATABASE mlflow;
