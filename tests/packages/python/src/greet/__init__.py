import click
@click.command()
@click.version_option("1.0")
def main():
    click.echo("hello from python")
