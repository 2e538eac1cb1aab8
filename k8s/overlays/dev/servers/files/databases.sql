-- Run once, by the image's entrypoint, when the volume is new; the database `users` is made by POSTGRES_DB.
CREATE DATABASE mailer;
