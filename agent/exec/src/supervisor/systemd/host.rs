//! Units of the host, as the helper asks for them.

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::{ANSWER, ServiceProxy, Systemd, SystemdError, UnitProxy, is_no_such_unit};
use crate::host::units::{HostUnit, HostUnits};
use crate::progress::StepError;

/// Whether systemd says that there is no such unit file.
fn is_no_file(error: &zbus::Error) -> bool {
    let absent = |error: &zbus::fdo::Error| matches!(error, zbus::fdo::Error::FileNotFound(_));
    is_no_such_unit(error) || matches!(error, zbus::Error::FDO(error) if absent(error))
}

impl HostUnits for Systemd {
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<HostUnit, StepError>> {
        Box::pin(async move { Ok(self.asked(name, self.look_at(name)).await?) })
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), StepError>> {
        Box::pin(async move {
            let ask =
                async { self.manager().await.map_err(Asked::Systemd)?.reload().await.map_err(Asked::Bus) };
            Ok(self.asked("all units", ask).await?)
        })
    }

    fn enable<'a>(&'a self, name: &'a str, on: bool) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let ask = async {
                let manager = self.manager().await.map_err(Asked::Systemd)?;
                if on {
                    manager.enable_unit_files(&[name], false, true).await.map_err(Asked::Bus)?;
                } else {
                    manager.disable_unit_files(&[name], false).await.map_err(Asked::Bus)?;
                }
                Ok(())
            };
            Ok(self.asked(name, ask).await?)
        })
    }

    fn restart<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let manager = self.manager().await?;
            // One that failed too often is refused otherwise.
            let _ = manager.reset_failed_unit(name).await;
            Ok(self.job(name, &manager, manager.restart_unit(name, "replace")).await?)
        })
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { Ok(self.stop_named(name).await?) })
    }
}

/// Why a question has no answer.
enum Asked {
    Systemd(SystemdError),
    Bus(zbus::Error),
}

impl Systemd {
    async fn asked<T>(
        &self,
        name: &str,
        ask: impl Future<Output = Result<T, Asked>>,
    ) -> Result<T, SystemdError> {
        match timeout(ANSWER, ask).await {
            Err(_) => Err(SystemdError::Late(ANSWER)),
            Ok(Err(Asked::Systemd(error))) => Err(error),
            Ok(Err(Asked::Bus(error))) => Err(self.broken(name, error).await),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    async fn look_at(&self, name: &str) -> Result<HostUnit, Asked> {
        let manager = self.manager().await.map_err(Asked::Systemd)?;
        let bus = manager.inner().connection().clone();
        let look = async {
            // Of one that is not there systemd makes an empty one.
            let path = manager.load_unit(name).await?;
            let unit = UnitProxy::builder(&bus).path(path.clone()).build().await?;
            let service = ServiceProxy::builder(&bus).path(path).build().await?;
            let enabled = match manager.get_unit_file_state(name).await {
                Ok(state) => state,
                Err(error) if is_no_file(&error) => String::new(),
                Err(error) => return Err(error),
            };
            Ok(HostUnit {
                active: unit.active_state().await?,
                file: unit.fragment_path().await?,
                enabled,
                environment: if name.ends_with(".service") {
                    service.environment().await?
                } else {
                    Vec::new()
                },
                stale: unit.need_daemon_reload().await?,
            })
        };
        look.await.map_err(Asked::Bus)
    }
}
