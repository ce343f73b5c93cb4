//! Where each value came from: the flag, else the variable, else the file of the instance, else the default. Errors name a setting
//! as it was given.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{
    Arg, ArgMatches, Command,
    builder::{OsStringValueParser, Resettable},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::{
    args::{ENV_FILE, NAME_OF_INSTANCE},
    instance::{self, InstanceFile},
    variables::{Variables, variable},
};
use crate::core::{exit_code::Exit, start_error::StartError, text::excerpt};

/// Returns the flag of a setting; `setting` is the name of its field.
pub(super) fn flag(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

/// Returns both spellings of a setting, for one that is missing.
#[must_use]
pub fn either(setting: &str) -> String {
    format!("{} (or {})", flag(setting), variable(setting))
}

/// The values of one command line with its environment, not yet understood.
pub(super) struct Sources<'a> {
    definition: Command,
    args: Vec<OsString>,
    /// Of the verb where there is one; every value is text.
    matches: ArgMatches,
    variables: &'a Variables,
    file: Option<InstanceFile>,
}

impl<'a> Sources<'a> {
    /// Reads which flags are given, whatever their values are.
    pub(super) fn new(definition: Command, args: &[OsString], variables: &'a Variables) -> Result<Self, clap::Error> {
        // clap by itself reads the environment of the process, takes an empty variable for a value, and tests must not change it.
        let text = |arg: Arg| any_value(arg).env(Resettable::Reset);
        let mut matches = each_setting(definition.clone(), &text).try_get_matches_from(args)?;
        while let Some((_, inner)) = matches.remove_subcommand() {
            matches = inner;
        }
        Ok(Self { definition, args: args.to_vec(), matches, variables, file: None })
    }

    /// Reads the file of the instance that the arguments name, if they do. Warnings are added to the remarks.
    pub(super) fn read_instance_file(&mut self, remarks: &mut Vec<String>) -> Result<(), StartError> {
        // Not every verb has these arguments.
        let name = self.matches.try_get_one::<OsString>(NAME_OF_INSTANCE).ok().flatten();
        let path = self.matches.try_get_one::<PathBuf>(ENV_FILE).ok().flatten();
        self.file = match (name, path) {
            (Some(name), _) => Some(InstanceFile::of_name(name, instance::FOLDER.as_ref(), &self.verb())?),
            (None, Some(path)) => Some(InstanceFile::at(path)?),
            (None, None) => None,
        };
        remarks.extend(self.file.iter().flat_map(InstanceFile::remarks));
        Ok(())
    }

    /// Returns where the value of a setting came from; `None` if it has none.
    pub(super) fn source(&self, setting: &str) -> Option<ValueSource> {
        match self.matches.value_source(setting) {
            Some(ValueSource::CommandLine) => Some(ValueSource::CommandLine),
            // See `values`.
            _ if self.value_of_variable(setting).is_some() => Some(ValueSource::EnvVariable),
            default => default,
        }
    }

    pub(super) fn is_given(&self, setting: &str) -> bool {
        matches!(self.source(setting), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    }

    /// Returns the name under which a setting was given.
    pub(super) fn spelled(&self, setting: &str) -> String {
        match self.source(setting) {
            Some(ValueSource::CommandLine) => flag(setting),
            Some(ValueSource::EnvVariable) => match self.file.as_ref().filter(|_| self.is_from_file(setting)) {
                Some(file) => format!("{} in {}", variable(setting), file.path.display()),
                None => variable(setting),
            },
            _ => format!("the default of {}", setting.to_ascii_uppercase()),
        }
    }

    /// Returns an error about the value of a setting.
    pub(super) fn refuse(&self, setting: &str, why: impl std::fmt::Display) -> StartError {
        StartError::new(Exit::Usage, format!("{}: {why}", self.spelled(setting)))
    }

    /// Returns an error about what the value of a setting points to.
    pub(super) fn unusable(&self, setting: &str, why: impl std::fmt::Display) -> StartError {
        StartError::new(Exit::Config, format!("{}: {why}", self.spelled(setting)))
    }

    /// Fails if the value of a flag is empty: somebody wrote it and meant something. An empty variable counts as unset.
    pub(super) fn refuse_empty_flags(&self) -> Result<(), StartError> {
        let mut names = self.names();
        match names.find(|setting| self.raw(setting).is_some_and(OsStr::is_empty)) {
            Some(setting) => Err(self.refuse(setting, "the value is empty; omit the flag to leave the setting unset")),
            None => Ok(()),
        }
    }

    /// Returns the text of a setting.
    pub(super) fn raw(&self, setting: &str) -> Option<&OsStr> {
        match self.source(setting)? {
            ValueSource::EnvVariable => self.value_of_variable(setting).map(OsString::as_os_str),
            _ => self.matches.get_raw(setting)?.next(),
        }
    }

    /// Returns the words of the command to run.
    pub(super) fn words(&self) -> Vec<OsString> {
        self.matches.get_many("words").map(|words| words.cloned().collect()).unwrap_or_default()
    }

    /// Returns the verb as it was written, such as "ctl show".
    pub(super) fn verb(&self) -> String {
        self.verbs().map(Command::get_name).collect::<Vec<_>>().join(" ")
    }

    /// Returns the names of all settings, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.settings().map(|arg| arg.get_id().as_str())
    }

    /// Fails if something is missing: all of it is named at once, with what requires it. `more` is what the definition does not say.
    pub(super) fn require(&self, because: &str, more: impl IntoIterator<Item = String>) -> Result<(), StartError> {
        let required = self.settings().filter(|arg| arg.is_required_set());
        let missing = required.map(|arg| arg.get_id().as_str()).filter(|setting| !self.is_given(setting)).map(either);
        let missing: Vec<_> = missing.chain(more).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(StartError::new(Exit::Usage, format!("{because} requires {}", missing.join(", "))))
    }

    /// Returns the first of some settings if none of them is given.
    pub(super) fn missing(&self, any_of: &[&str]) -> Option<String> {
        let is_given = any_of.iter().any(|setting| self.is_given(setting));
        any_of.first().filter(|_| !is_given).map(|setting| either(setting))
    }

    /// Reads all values, each with the parser of its setting.
    pub(super) fn values<T: clap::FromArgMatches>(&self) -> Result<T, StartError> {
        for arg in self.settings() {
            let setting = arg.get_id().as_str();
            // clap would not say which setting it is.
            if self.raw(setting).is_some_and(|raw| raw.to_str().is_none()) && !is_path(arg) {
                return Err(self.refuse(setting, "the value is not valid UTF-8"));
            }
        }
        let from_variables = |arg: Arg| match self.variable_of(&arg) {
            Some(value) => arg.default_value(value).required(false).env(Resettable::Reset),
            None => arg.env(Resettable::Reset),
        };
        let matches = each_setting(self.definition.clone(), &from_variables).try_get_matches_from(&self.args);
        matches.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| self.explain(&error))
    }

    /// Returns the settings of the command, or of the verb.
    fn settings(&self) -> impl Iterator<Item = &Arg> {
        let arguments = self.verbs().last().into_iter().flat_map(Command::get_arguments);
        arguments.filter(|arg| arg.get_env().is_some())
    }

    /// Returns the definition and the verbs below it that were written. The words before a verb are verbs.
    fn verbs(&self) -> impl Iterator<Item = &Command> {
        let mut words = self.args.iter().skip(1);
        std::iter::successors(Some(&self.definition), move |command| command.find_subcommand(words.next()?))
    }

    fn value_of_variable(&self, setting: &str) -> Option<&OsString> {
        self.settings().find(|arg| arg.get_id() == setting).and_then(|arg| self.variable_of(arg))
    }

    fn is_from_file(&self, setting: &str) -> bool {
        let variable = variable(setting);
        set_in(self.variables, OsStr::new(&variable)).is_none()
    }

    fn variable_of(&self, arg: &Arg) -> Option<&OsString> {
        let variable = arg.get_env()?;
        let in_file = || set_in(&self.file.as_ref()?.variables, variable);
        set_in(self.variables, variable).or_else(in_file)
    }

    /// Names the setting whose value cannot be understood as it was given.
    fn explain(&self, error: &clap::Error) -> StartError {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        // "--lease-duration <SECONDS>"
        let name = text(ContextKind::InvalidArg).and_then(|arg| arg.split([' ', '[', '=']).next()?.strip_prefix("--"));
        let Some(setting) = name.map(|name| name.replace('-', "_")) else { return usage(error) };
        match (error.kind(), std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
            (ErrorKind::ValueValidation, Some(why), _) => self.refuse(&setting, why),
            (ErrorKind::InvalidValue, _, Some(ContextValue::Strings(valid))) => {
                let value = excerpt(text(ContextKind::InvalidValue).unwrap_or_default());
                self.refuse(&setting, format_args!("'{value}' is not a valid value; use {}", valid.join(" or ")))
            }
            _ => usage(error),
        }
    }
}

/// Returns the value of a variable. An empty one counts as unset.
fn set_in<'a>(variables: &'a Variables, name: &OsStr) -> Option<&'a OsString> {
    variables.get(name).filter(|value| !value.is_empty())
}

/// Returns clap's own error, which begins with the words of an operator's mistake.
pub(super) fn usage(error: &clap::Error) -> StartError {
    let text = error.to_string();
    StartError::new(Exit::Usage, text.strip_prefix("error: ").unwrap_or(&text).trim_end())
}

/// Changes each argument that has a variable, also those of the verbs.
fn each_setting(command: Command, change: &impl Fn(Arg) -> Arg) -> Command {
    let command = command.mut_args(|arg| if arg.get_env().is_some() { change(arg) } else { arg });
    command.mut_subcommands(|verb| each_setting(verb, change))
}

/// Has an argument take any value, or none.
fn any_value(arg: Arg) -> Arg {
    arg.value_parser(OsStringValueParser::new()).required(false)
}

/// Returns the help that was asked for, whatever else is wrong.
pub(super) fn help(definition: Command, args: &[OsString]) -> Option<String> {
    let answer = each_setting(definition, &any_value).try_get_matches_from(args);
    answer.err().map(|help| help.to_string())
}

fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == clap::builder::ValueParser::path_buf().type_id()
}
